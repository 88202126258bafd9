// Of device_gateway: what is stored of which device, and which session the device has. Knows
// nothing of the protocol.

#ifndef FAIRLEAD_EXAMPLES_DEVICE_GATEWAY_DEVICE_TABLE_HPP
#define FAIRLEAD_EXAMPLES_DEVICE_GATEWAY_DEVICE_TABLE_HPP

#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/fairlead.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/post.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fcntl.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace example
{
using number = std::uint64_t;

constexpr std::size_t max_payload = 4096;
constexpr std::size_t max_id = 64;
constexpr std::size_t max_devices = 10'000;

/// Big endian.
inline std::string encoded(number value)
{
    std::string bytes(8, '\0');
    for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte, value >>= 8U) {
        *byte = static_cast<char>(value & 0xffU);
    }
    return bytes;
}

inline number decoded(std::string_view bytes)
{
    number value = 0;
    for (const char byte : bytes.substr(0, 8)) {
        value = value << 8U | static_cast<unsigned char>(byte);
    }
    return value;
}

/// The frames of the journal: a number, the id's size in a byte, the id, the payload.
constexpr fairlead::codec::length_prefix record_framing{.max_frame = 8 + 1 + max_id + max_payload};

inline void add_record(
    std::vector<std::byte>& records, number one, const std::string& id, std::string_view payload)
{
    const std::string record =
        encoded(one) + static_cast<char>(id.size()) + id + std::string(payload);
    record_framing.encode(fairlead::codec::bytes_of(record), records);
}

/// A file that only grows, by whole records.
class journal
{
public:
    journal(const char* path, bool sync)
        : journal(
              ::open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | (sync ? O_DSYNC : 0), 0600))
    {
        if (file_ < 0 || ::flock(file_, LOCK_EX | LOCK_NB) != 0) { // one gateway at a time
            fail("cannot have the journal");
        }
    }

    journal(const journal&) = delete;
    journal& operator=(const journal&) = delete;

    ~journal()
    {
        ::close(file_);
    }

    /// Gives every record to `take`, and cuts off one that a crash has left unfinished.
    template <typename Take>
    void restore(Take take)
    {
        fairlead::codec::frame_reader reader(record_framing);
        std::error_code error;
        for (;;) {
            const auto space = reader.prepare(64 << 10);
            const ssize_t bytes = ::read(file_, space.data(), space.size());
            if (bytes < 0) {
                fail("cannot read the journal");
            }
            reader.commit(static_cast<std::size_t>(bytes));
            for (auto record = reader.next(error); record; record = reader.next(error)) {
                if (!take(fairlead::codec::text_of(*record))) {
                    error = fairlead::errc::malformed_frame;
                    break;
                }
                size_ += 4 + static_cast<off_t>(record->size());
            }
            if (error) {
                throw std::system_error(error, "the journal, at byte " + std::to_string(size_));
            }
            if (bytes == 0) {
                break;
            }
        }
        if (const std::size_t torn = reader.pending().size(); torn != 0) {
            std::fprintf(stderr, "the journal: a torn record of %zu bytes is cut off\n", torn);
            cut();
        }
    }

    /// All or nothing: what a full disk cuts in two goes before the next record comes.
    void append(std::span<const std::byte> records)
    {
        if (std::exchange(is_torn_, true)) {
            cut();
        }
        for (auto rest = records; !rest.empty();) {
            const ssize_t bytes = ::write(file_, rest.data(), rest.size());
            if (bytes < 0 && errno != EINTR) {
                fail("cannot write the journal");
            }
            rest = rest.subspan(static_cast<std::size_t>(std::max<ssize_t>(bytes, 0)));
        }
        size_ += static_cast<off_t>(records.size());
        is_torn_ = false;
    }

private:
    explicit journal(int file) : file_(file)
    {}

    [[noreturn]] static void fail(const char* what)
    {
        throw std::system_error(errno, std::generic_category(), what);
    }

    void cut() const
    {
        if (::ftruncate(file_, size_) != 0) {
            fail("cannot cut the journal");
        }
    }

    int file_;
    off_t size_ = 0; // of the whole records
    bool is_torn_ = false;
};

/// How a device's next session, perhaps on another thread, ends the one before.
struct session_link
{
    asio::any_io_executor thread;
    std::function<void()> end; // to be called there; empty when it is over
};

using session_ptr = std::shared_ptr<session_link>;

/// What is stored of whom, and who is here. Of all shards, under one lock: a device may come back
/// to another one. Writing to the kernel's cache is short; who wants `sync` for many devices gives
/// the journal a thread.
class device_table
{
public:
    device_table(const char* path, bool sync) : journal_(path, sync)
    {
        journal_.restore([this](std::string_view record) {
            const auto id_size = record.size() > 9 ? static_cast<unsigned char>(record[8]) : 0U;
            return id_size != 0 && id_size <= record.size() - 9 &&
                   decoded(record) == ++devices_[std::string(record.substr(9, id_size))].last;
        });
    }

    /// Makes `next` the device's session instead of any other. Returns the number of the last
    /// message that is stored; nothing when there are too many devices.
    std::optional<number> enter(const std::string& id, const session_ptr& next)
    {
        const std::lock_guard lock(mutex_);
        if (devices_.size() >= max_devices && devices_.find(id) == devices_.end()) {
            return std::nullopt;
        }
        device& one = devices_[id];
        if (one.session) {
            asio::post(one.session->thread, [before = one.session] {
                if (before->end) {
                    before->end();
                }
            });
        }
        one.session = next;
        return one.last;
    }

    /// Stores messages up to `last`. False: nothing is stored, the device has another session.
    bool store(
        const std::string& id, const session_ptr& by, std::span<const std::byte> records,
        number last)
    {
        const std::lock_guard lock(mutex_);
        const auto found = devices_.find(id);
        if (found == devices_.end() || found->second.session != by) {
            return false;
        }
        journal_.append(records);
        found->second.last = last;
        return true;
    }

    void leave(const std::string& id, const session_ptr& one)
    {
        const std::lock_guard lock(mutex_);
        const auto found = devices_.find(id);
        if (found != devices_.end() && found->second.session == one) {
            found->second.session.reset();
            if (found->second.last == 0) { // invented ids leave nothing behind
                devices_.erase(found);
            }
        }
    }

private:
    struct device
    {
        number last = 0;
        session_ptr session;
    };

    std::mutex mutex_;
    journal journal_;
    std::map<std::string, device> devices_;
};
} // namespace example

#endif // FAIRLEAD_EXAMPLES_DEVICE_GATEWAY_DEVICE_TABLE_HPP
