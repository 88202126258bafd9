// A test's work in a process of its own: for descriptor limits, signals and strace. The child reports in lines; the
// test waits for them, ten seconds at most for each, and ends the child whatever happens.

#ifndef FAIRLEAD_TESTS_SUPPORT_CHILD_PROCESS_HPP
#define FAIRLEAD_TESTS_SUPPORT_CHILD_PROCESS_HPP

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <fcntl.h>
#include <functional>
#include <poll.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace test
{
/// How often `part` is in `text`.
inline std::size_t times(const std::string& text, const std::string& part)
{
    std::size_t count = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++count;
    }
    return count;
}

/// The child's way to speak. Lines arrive whole, from any thread.
class reporter
{
public:
    explicit reporter(int fd) : fd_(fd)
    {}

    void say(std::string line) const
    {
        line += '\n';
        [[maybe_unused]] const auto written = ::write(fd_, line.data(), line.size());
    }

private:
    int fd_;
};

class child_process
{
public:
    static constexpr std::chrono::seconds longest_silence{10};

    /// Runs `body(reporter)` in a fork, which exits with 0, or with 1 after an exception. Only while this process has
    /// one thread.
    static child_process fork(const std::function<void(const reporter&)>& body)
    {
        return child_process([&](int report) {
            int code = 0;
            try {
                body(reporter(report));
            } catch (const std::exception& error) {
                reporter(report).say(std::string("exception: ") + error.what());
                code = 1;
            }
            ::_exit(code); // nothing of the parent's is flushed or destroyed twice
        });
    }

    /// Runs a program, found by PATH. It finds the descriptor for its report in the variable `report_variable`.
    static child_process execute(const std::vector<std::string>& command)
    {
        return child_process([&](int report) {
            std::vector<char*> arguments;
            for (const auto& argument : command) {
                arguments.push_back(const_cast<char*>(argument.c_str()));
            }
            arguments.push_back(nullptr);
            ::setenv(report_variable, std::to_string(report).c_str(), 1);
            const int silent = ::open("/dev/null", O_WRONLY);
            ::dup2(silent, STDOUT_FILENO);
            ::dup2(silent, STDERR_FILENO);
            ::execvp(arguments[0], arguments.data());
            ::_exit(127);
        });
    }

    static constexpr const char* report_variable = "FAIRLEAD_TEST_REPORT";

    child_process(const child_process&) = delete;
    child_process& operator=(const child_process&) = delete;

    ~child_process()
    {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
        ::close(report_);
    }

    /// Waits for a line that begins with `beginning`, skips what comes before, and returns the rest of it. Throws when
    /// the child ends or falls silent instead.
    std::string expect(std::string_view beginning)
    {
        for (;;) {
            const std::string line = next_line();
            heard_ += line + "\n";
            if (line.compare(0, beginning.size(), beginning) == 0) {
                return line.substr(beginning.size());
            }
        }
    }

    void signal(int number)
    {
        last_signal_ = number;
        ::kill(pid_, number);
    }

    /// Waits for the end. Returns the exit code, or minus the number of the signal that ended it.
    int wait()
    {
        const auto limit = std::chrono::steady_clock::now() + longest_silence;
        int status = 0;
        while (::waitpid(pid_, &status, WNOHANG) == 0) {
            if (std::chrono::steady_clock::now() > limit) {
                throw std::runtime_error("the child does not end; it said:\n" + heard_);
            }
            std::this_thread::yield();
        }
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

    /// Every line so far.
    const std::string& heard() const noexcept
    {
        return heard_;
    }

private:
    template <typename Body>
    explicit child_process(Body body)
    {
        int ends[2];
        if (::pipe(ends) != 0) {
            throw std::runtime_error("no pipe for the child");
        }
        ::fcntl(ends[0], F_SETFD, FD_CLOEXEC);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(ends[0]);
            body(ends[1]);
        }
        ::close(ends[1]);
        report_ = ends[0];
    }

    std::string next_line()
    {
        for (;;) {
            if (const auto end = unread_.find('\n'); end != std::string::npos) {
                std::string line = unread_.substr(0, end);
                unread_.erase(0, end + 1);
                return line;
            }
            if (!wait_for_report()) {
                throw std::runtime_error("the child is silent; it said:\n" + heard_);
            }
            char buffer[4096];
            const auto n = ::read(report_, buffer, sizeof buffer);
            if (n <= 0) {
                throw std::runtime_error("the child has ended; it said:\n" + heard_);
            }
            unread_.append(buffer, static_cast<std::size_t>(n));
        }
    }

    /// ThreadSanitizer keeps back a signal that comes between two calls of its own, now and then for ever: there a
    /// child that stays silent is sent its last signal again.
    bool wait_for_report()
    {
        constexpr std::chrono::milliseconds silence = longest_silence;
#if defined(__SANITIZE_THREAD__)
        constexpr int rounds = 5;
#else
        constexpr int rounds = 1;
#endif
        for (int round = 1;; ++round) {
            pollfd waiting{.fd = report_, .events = POLLIN, .revents = 0};
            if (::poll(&waiting, 1, static_cast<int>(silence.count() / rounds)) > 0) {
                return true;
            }
            if (round == rounds) {
                return false;
            }
            if (last_signal_ != 0) {
                ::kill(pid_, last_signal_);
            }
        }
    }

    pid_t pid_ = -1;
    int report_ = -1;
    int last_signal_ = 0;
    std::string unread_;
    std::string heard_;
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_CHILD_PROCESS_HPP
