// fairlead: OpenSSL's random numbers from a simulation's seed.

#ifndef FAIRLEAD_TESTING_SEEDED_RAND_HPP
#define FAIRLEAD_TESTING_SEEDED_RAND_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/random.hpp>

#include <openssl/rand.h>

#include <algorithm>
#include <cstddef>

// OpenSSL 3 calls this way of replacing its generator old, and has no other that is as short.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace FAIRLEAD_NAMESPACE::testing
{
/// While it lives, what OpenSSL draws comes from a source: handshakes repeat, and nothing is secret.
/// One at a time in a process.
class seeded_rand
{
public:
    explicit seeded_rand(random_source& from) : before_(RAND_get_rand_method())
    {
        drawn_from = &from;
        static const RAND_METHOD method = {nullptr, draw, nullptr, nullptr, draw, [] { return 1; }};
        RAND_set_rand_method(&method);
    }

    seeded_rand(const seeded_rand&) = delete;
    seeded_rand& operator=(const seeded_rand&) = delete;

    ~seeded_rand()
    {
        RAND_set_rand_method(before_);
        drawn_from = nullptr;
    }

private:
    static int draw(unsigned char* into, int size)
    {
        std::generate_n(into, static_cast<std::size_t>(std::max(size, 0)), [] {
            return static_cast<unsigned char>(drawn_from->next());
        });
        return 1;
    }

    const RAND_METHOD* before_;

    static inline random_source* drawn_from = nullptr;
};
} // namespace FAIRLEAD_NAMESPACE::testing

#pragma GCC diagnostic pop

#endif // FAIRLEAD_TESTING_SEEDED_RAND_HPP
