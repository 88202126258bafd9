// The list through its elements: order, removal without the list, removal during a walk.

#include "tests/support/catch.hpp"
#include <fairlead/detail/util/intrusive_list.hpp>

#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

namespace
{
using fairlead::detail::intrusive_list;
using fairlead::detail::list_hook;

struct item : list_hook<>
{
    explicit item(int n) : number(n)
    {}

    int number;
};

using item_list = intrusive_list<item>;

std::vector<int> numbers(item_list& list)
{
    std::vector<int> result;
    list.for_each([&result](item& each) { result.push_back(each.number); });
    return result;
}

void clear(item_list& list)
{
    list.for_each([](item& each) { each.unlink(); });
}
} // namespace

TEST_CASE("a new list is empty and a new element is in no list", "[intrusive_list]")
{
    item_list list;
    item one(1);
    CHECK(list.empty());
    CHECK_FALSE(one.is_linked());
    CHECK(numbers(list).empty());
    one.unlink();
    CHECK_FALSE(one.is_linked());
}

TEST_CASE("elements are visited in the order in which they were pushed", "[intrusive_list]")
{
    item_list list;
    item one(1);
    item two(2);
    item three(3);
    list.push_back(two);
    list.push_back(one);
    list.push_back(three);
    CHECK_FALSE(list.empty());
    CHECK(&list.front() == &two);
    CHECK(one.is_linked());
    CHECK(numbers(list) == std::vector<int>{2, 1, 3});
    clear(list);
    CHECK(list.empty());
}

TEST_CASE("an element leaves the front, the middle and the back", "[intrusive_list]")
{
    item_list list;
    item one(1);
    item two(2);
    item three(3);
    item four(4);
    for (item* each : {&one, &two, &three, &four}) {
        list.push_back(*each);
    }
    two.unlink();
    CHECK(numbers(list) == std::vector<int>{1, 3, 4});
    one.unlink();
    CHECK(&list.front() == &three);
    four.unlink();
    CHECK(numbers(list) == std::vector<int>{3});
    three.unlink();
    CHECK(list.empty());
    CHECK_FALSE(three.is_linked());
}

TEST_CASE("an element that left can be pushed again, into another list too", "[intrusive_list]")
{
    item_list first;
    item_list second;
    item one(1);
    item two(2);
    first.push_back(one);
    first.push_back(two);
    one.unlink();
    first.push_back(one);
    CHECK(numbers(first) == std::vector<int>{2, 1});
    two.unlink();
    second.push_back(two);
    CHECK(numbers(first) == std::vector<int>{1});
    CHECK(numbers(second) == std::vector<int>{2});
    clear(first);
    clear(second);
}

TEST_CASE("a walk may unlink the element it is at", "[intrusive_list]")
{
    item_list list;
    item one(1);
    item two(2);
    item three(3);
    for (item* each : {&one, &two, &three}) {
        list.push_back(*each);
    }
    std::vector<int> visited;
    list.for_each([&visited](item& each) {
        visited.push_back(each.number);
        if (each.number != 2) {
            each.unlink();
        }
    });
    CHECK(visited == std::vector<int>{1, 2, 3});
    CHECK(numbers(list) == std::vector<int>{2});
    clear(list);
}

TEST_CASE("tags keep two lists of the same elements apart", "[intrusive_list]")
{
    struct by_age;
    struct by_name;
    struct person : list_hook<by_age>, list_hook<by_name>
    {};
    intrusive_list<person, by_age> ages;
    intrusive_list<person, by_name> names;
    person ann;
    person bob;
    ages.push_back(ann);
    ages.push_back(bob);
    names.push_back(bob);
    names.push_back(ann);
    CHECK(&ages.front() == &ann);
    CHECK(&names.front() == &bob);
    ann.list_hook<by_age>::unlink();
    CHECK(&ages.front() == &bob);
    CHECK(ann.list_hook<by_name>::is_linked());
    bob.list_hook<by_age>::unlink();
    bob.list_hook<by_name>::unlink();
    ann.list_hook<by_name>::unlink();
    CHECK(ages.empty());
    CHECK(names.empty());
}

TEST_CASE("a walk goes on whatever the visitor does to the list", "[intrusive_list]")
{
    const int seed = GENERATE(range(0, 200));
    std::mt19937 random(static_cast<unsigned>(seed));
    std::vector<std::unique_ptr<item>> items;
    item_list list;
    const auto add = [&] {
        items.push_back(std::make_unique<item>(static_cast<int>(items.size())));
        list.push_back(*items.back());
    };
    for (int i = 0; i < 12; ++i) {
        add();
    }
    std::map<int, int> visits;
    std::set<int> removed_before;
    int depth = 0;
    const auto walk = [&](auto& self) -> void {
        ++depth;
        list.for_each([&](item& each) {
            if (depth == 1) {
                CHECK(removed_before.count(each.number) == 0);
                ++visits[each.number];
            }
            for (int acts = static_cast<int>(random() % 4); acts > 0; --acts) {
                const auto index = random() % items.size();
                if (random() % 3 == 0 && items.size() < 40) {
                    add();
                } else if (random() % 2 == 0) { // any of them: this one, the next, one long gone
                    items[index]->unlink();
                    removed_before.insert(static_cast<int>(index));
                } else if (depth < 3) {
                    self(self);
                }
            }
        });
        --depth;
    };
    walk(walk);
    for (const auto& each : items) {
        const bool is_left = each->is_linked();
        CHECK(visits[each->number] <= 1);
        CHECK((!is_left || visits[each->number] == 1)); // nobody that stayed was missed
    }
    clear(list);
    CHECK(list.empty());
}

TEST_CASE(
    "an element added by the first walk is the front to whoever asks inside a walk",
    "[intrusive_list]")
{
    item_list list;
    item one(1);
    item two(2);
    list.push_back(one);
    std::vector<int> fronts;
    list.for_each([&](item& each) {
        each.unlink();
        CHECK(list.empty());
        if (each.number == 1) {
            list.push_back(two);
            CHECK_FALSE(list.empty());
            fronts.push_back(list.front().number);
        }
    });
    CHECK(fronts == std::vector<int>{2});
    CHECK(list.empty());
}
