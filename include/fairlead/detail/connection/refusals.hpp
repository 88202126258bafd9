// fairlead: whether an operation of a connection may start. Each says the error with which it ends at
// once; none: it may start. Ring 0.

#ifndef FAIRLEAD_DETAIL_CONNECTION_REFUSALS_HPP
#define FAIRLEAD_DETAIL_CONNECTION_REFUSALS_HPP

#include <fairlead/detail/connection/lifecycle.hpp>
#include <fairlead/detail/io/attempt.hpp>
#include <fairlead/detail/namespace.hpp>

#include <system_error>

namespace FAIRLEAD_NAMESPACE::detail
{
inline std::error_code in_progress() noexcept
{
    return std::make_error_code(std::errc::operation_in_progress);
}

/// Our direction has ended.
inline std::error_code broken_pipe() noexcept
{
    return std::make_error_code(std::errc::broken_pipe);
}

/// `at_hand`: there is input that needs no system call.
inline std::error_code refuses_read(const lifecycle& life, bool at_hand) noexcept
{
    if (life.input.is_busy()) {
        return life.is_stopped() ? life.end.stop_code() : in_progress();
    }
    return at_hand && !life.is_stopped() ? no_error : life.end.refuses_read();
}

/// Nothing more can be sent, by a sender who had begun before the end was asked for.
inline std::error_code refuses_rest(const lifecycle& life, bool is_tls) noexcept
{
    if (life.is_stopped()) {
        return life.end.stop_code();
    }
    return life.input.is_shaking_hands()       ? in_progress()
           : life.has_finished_sending(is_tls) ? broken_pipe()
                                               : life.end.refuses_write();
}

/// Nothing more can be sent; none: it can, though perhaps behind what is being written.
inline std::error_code refuses_output(const lifecycle& life, bool is_tls) noexcept
{
    const std::error_code refusal = refuses_rest(life, is_tls);
    return !refusal && life.output.was_asked_to_end() ? broken_pipe() : refusal;
}

inline std::error_code refuses_write(
    const lifecycle& life, write_kind kind, const lifecycle::surroundings& around) noexcept
{
    const bool is_others = kind != write_kind::queued;
    const bool overtakes = kind == write_kind::whole && around.messages == message_queue::unsent;
    if (is_others && (life.output.is_writing() || overtakes) && !life.is_stopped()) {
        return in_progress();
    }
    if (kind == write_kind::whole) {
        return refuses_output(life, around.is_tls);
    }
    const bool goes_on = kind == write_kind::queued && life.is_delivering();
    if (const std::error_code ended = life.end.refuses_write(); ended && !goes_on) {
        return ended;
    }
    return life.output.is_writing() || life.input.is_shaking_hands() ? in_progress()
           : life.has_finished_sending(around.is_tls)                ? broken_pipe()
                                                                     : no_error;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_REFUSALS_HPP
