// Keys with their hashes, for hash tables that strangers fill.

#ifndef FAIRLEAD_EXAMPLES_KV_STORE_HASHED_KEY_HPP
#define FAIRLEAD_EXAMPLES_KV_STORE_HASHED_KEY_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

namespace kv
{
/// A hash that nobody can foresee: SipHash-1-3 with a key drawn at the start (J.-P. Aumasson,
/// D. J. Bernstein: "SipHash: a fast short-input PRF", 2012). std::hash is the same everywhere, so
/// that somebody could send a million keys that all fall into one bucket.
class siphash
{
public:
    siphash() : siphash(std::random_device{})
    {}

    std::uint64_t operator()(std::string_view text) const noexcept
    {
        state now{
            key0_ ^ 0x736f6d6570736575U, key1_ ^ 0x646f72616e646f6dU, key0_ ^ 0x6c7967656e657261U,
            key1_ ^ 0x7465646279746573U};
        const std::uint64_t size = text.size();
        for (; text.size() >= 8; text.remove_prefix(8)) {
            now.add(load(text.substr(0, 8)));
        }
        now.add(load(text) | size << 56U);
        return now.finish();
    }

private:
    struct state
    {
        void round() noexcept
        {
            a += b;
            c += d;
            b = std::rotl(b, 13) ^ a;
            d = std::rotl(d, 16) ^ c;
            a = std::rotl(a, 32);
            c += b;
            a += d;
            b = std::rotl(b, 17) ^ c;
            d = std::rotl(d, 21) ^ a;
            c = std::rotl(c, 32);
        }

        void add(std::uint64_t word) noexcept
        {
            d ^= word;
            round();
            a ^= word;
        }

        std::uint64_t finish() noexcept
        {
            c ^= 0xffU;
            round();
            round();
            round();
            return a ^ b ^ c ^ d;
        }

        std::uint64_t a, b, c, d;
    };

    explicit siphash(std::random_device&& source) : key0_(draw(source)), key1_(draw(source))
    {}

    static std::uint64_t draw(std::random_device& source)
    {
        const std::uint64_t high = source();
        return high << 32U | source();
    }

    /// Up to eight bytes. In this machine's order: nobody else sees the result.
    static std::uint64_t load(std::string_view bytes) noexcept
    {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes.data(), bytes.size());
        return word;
    }

    std::uint64_t key0_;
    std::uint64_t key1_;
};

/// A key and its hash, so that it is computed once.
struct hashed_key
{
    std::string_view text;
    std::uint64_t hash;
};

inline hashed_key hashed(std::string_view key)
{
    static const siphash hash;
    return {key, hash(key)};
}

/// For tables that are asked with a `hashed_key`.
struct text_hash
{
    using is_transparent = void;

    std::size_t operator()(const hashed_key& key) const // not noexcept: so libstdc++ keeps it
    {
        return static_cast<std::size_t>(key.hash);
    }

    std::size_t operator()(std::string_view key) const
    {
        return (*this)(hashed(key));
    }
};

/// The same.
struct text_equal
{
    using is_transparent = void;

    bool operator()(std::string_view one, std::string_view other) const noexcept
    {
        return one == other;
    }

    bool operator()(const hashed_key& one, std::string_view other) const noexcept
    {
        return one.text == other;
    }
};
} // namespace kv

#endif // FAIRLEAD_EXAMPLES_KV_STORE_HASHED_KEY_HPP
