// Runs a program that is not ours with bounded patience, and says what it printed and how it ended.

#ifndef FAIRLEAD_TESTS_SUPPORT_SUBPROCESS_HPP
#define FAIRLEAD_TESTS_SUPPORT_SUBPROCESS_HPP

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace test
{
/// Whether the shell would find `program`.
inline bool has_program(const std::string& program)
{
    const char* const path = std::getenv("PATH");
    std::istringstream directories(path != nullptr ? path : "/usr/bin:/bin");
    for (std::string directory; std::getline(directories, directory, ':');) {
        const auto file = std::filesystem::path(directory) / program;
        if (::access(file.c_str(), X_OK) == 0) {
            return true;
        }
    }
    return false;
}

struct program_result
{
    /// Minus the signal's number when a signal ended it.
    int exit_code = -1;
    bool timed_out = false;
    std::string output;
    std::string errors;
};

/// Runs `command`, found by PATH, with `input` as its standard input, which ends once the program has printed
/// `awaited` bytes. A program that takes longer than `longest` is killed. Only for moderate input and output: everything is held in memory.
class subprocess
{
public:
    static program_result run(
        const std::vector<std::string>& command, std::string_view input = {},
        std::size_t awaited = 0, std::chrono::seconds longest = std::chrono::seconds(30))
    {
        std::signal(SIGPIPE, SIG_IGN); // a program that does not read its input
        subprocess child(command);
        program_result result;
        child.converse(input, awaited, std::chrono::steady_clock::now() + longest, result);
        result.exit_code = child.wait();
        return result;
    }

private:
    explicit subprocess(const std::vector<std::string>& command)
    {
        std::vector<char*> arguments;
        for (const auto& argument : command) {
            arguments.push_back(const_cast<char*>(argument.c_str()));
        }
        arguments.push_back(nullptr);
        for (auto& ends : pipes_) {
            if (::pipe2(ends, O_CLOEXEC) != 0) {
                throw std::system_error(errno, std::system_category(), "pipe");
            }
        }
        pid_ = ::fork();
        if (pid_ == 0) { // only what is safe between fork and exec of a process with threads
            ::dup2(pipes_[0][0], STDIN_FILENO);
            ::dup2(pipes_[1][1], STDOUT_FILENO);
            ::dup2(pipes_[2][1], STDERR_FILENO);
            ::signal(SIGPIPE, SIG_DFL);
            ::execvp(arguments[0], arguments.data());
            ::_exit(127);
        }
        close(pipes_[0][0]);
        close(pipes_[1][1]);
        close(pipes_[2][1]);
        if (pid_ < 0) {
            throw std::system_error(errno, std::system_category(), "fork");
        }
        ::fcntl(pipes_[0][1], F_SETFL, O_NONBLOCK);
    }

    subprocess(const subprocess&) = delete;
    subprocess& operator=(const subprocess&) = delete;

    ~subprocess()
    {
        for (auto& ends : pipes_) {
            close(ends[0]);
            close(ends[1]);
        }
    }

    void converse(
        std::string_view input, std::size_t awaited, std::chrono::steady_clock::time_point limit,
        program_result& result)
    {
        int& in = pipes_[0][1];
        int& out = pipes_[1][0];
        int& err = pipes_[2][0];
        while (out >= 0 || err >= 0) {
            if (input.empty() && result.output.size() >= awaited) {
                close(in);
            }
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(
                limit - std::chrono::steady_clock::now());
            pollfd waiting[] = {
                {.fd = input.empty() ? -1 : in, .events = POLLOUT, .revents = 0},
                {.fd = out, .events = POLLIN, .revents = 0},
                {.fd = err, .events = POLLIN, .revents = 0}};
            if (left.count() <= 0 || ::poll(waiting, 3, static_cast<int>(left.count())) <= 0) {
                result.timed_out = true;
                ::kill(pid_, SIGKILL);
                return;
            }
            if (waiting[0].revents != 0) {
                const ssize_t n = ::write(in, input.data(), input.size());
                input.remove_prefix(n > 0 ? static_cast<std::size_t>(n) : 0);
                if (n < 0 && errno != EAGAIN) {
                    input = {};
                    close(in);
                }
            }
            if (waiting[1].revents != 0) {
                collect(out, result.output);
            }
            if (waiting[2].revents != 0) {
                collect(err, result.errors);
            }
        }
    }

    static void collect(int& fd, std::string& text)
    {
        char buffer[16384];
        const ssize_t n = ::read(fd, buffer, sizeof buffer);
        if (n > 0) {
            text.append(buffer, static_cast<std::size_t>(n));
        } else {
            close(fd);
        }
    }

    int wait()
    {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

    static void close(int& fd)
    {
        if (fd >= 0) {
            ::close(fd);
            fd = -1;
        }
    }

    pid_t pid_ = -1;
    int pipes_[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_SUBPROCESS_HPP
