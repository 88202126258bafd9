// What a handler's operations ended with, for the test's thread to wait for; and a reader whose operations end there.

#ifndef FAIRLEAD_TESTS_SUPPORT_ERROR_LIST_HPP
#define FAIRLEAD_TESTS_SUPPORT_ERROR_LIST_HPP

#include "support/server_fixture.hpp"
#include <fairlead/connection.hpp>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <array>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace test
{
class error_list
{
public:
    void add(const std::error_code& error)
    {
        const std::lock_guard lock(mutex_);
        errors_.push_back(error);
        changed_.notify_all();
    }

    /// The error at `index`, once it is there. Throws when it does not come.
    std::error_code wait(std::size_t index = 0) const
    {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, patience, [&] { return errors_.size() > index; })) {
            throw std::runtime_error("the operation did not end");
        }
        return errors_[index];
    }

    std::size_t size() const
    {
        const std::lock_guard lock(mutex_);
        return errors_.size();
    }

private:
    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    std::vector<std::error_code> errors_;
};

/// How a handler waits for its client.
enum class reading
{
    read_some,
    read,
    readable,
    asio_read_some,
};

/// Reads and drops until an error or the end comes, and notes it (the end as no error).
struct dropping_handler
{
    error_list* errors;
    reading how = reading::read_some;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        std::array<char, 4096> buffer;
        std::error_code error;
        bool goes_on = true;
        while (goes_on) {
            switch (how) {
            case reading::read_some:
                goes_on = co_await connection.read_some(asio::buffer(buffer), error) != 0;
                break;
            case reading::read:
                goes_on = co_await connection.read(asio::buffer(buffer), error) != 0 && !error;
                break;
            case reading::readable:
                goes_on = co_await connection.readable(error);
                if (goes_on) {
                    goes_on = co_await connection.read_some(asio::buffer(buffer), error) != 0;
                }
                break;
            case reading::asio_read_some:
                goes_on = co_await connection.async_read_some(
                              asio::buffer(buffer),
                              asio::redirect_error(asio::use_awaitable, error)) != 0;
                break;
            }
        }
        errors->add(error);
    }
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_ERROR_LIST_HPP
