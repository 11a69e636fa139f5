// C++'s operators, one rule a function: `operators NAME` follows one and exits with 0, or says on
// stderr what was broken and exits with 1. `operators` alone lists the names.
//
// Compiled with and without -DREPLACE, which makes this program replace the four operators that
// all others go through.

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#define EXPECT(condition)                                                                  \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);   \
            _exit(1);                                                                      \
        }                                                                                  \
    } while (0)

namespace {

// More than any process can have, and not known to the compiler.
volatile std::size_t too_much = PTRDIFF_MAX - 100;
constexpr std::align_val_t ALIGN{256};

struct Form {
    const char *name;
    void *(*allocate)(std::size_t);
    void (*release)(void *, std::size_t);
    bool throws;
};

const Form FORMS[] = {
    {"new", [](std::size_t n) { return operator new(n); },
     [](void *p, std::size_t) { operator delete(p); }, true},
    {"new, sized delete", [](std::size_t n) { return operator new(n); },
     [](void *p, std::size_t n) { operator delete(p, n); }, true},
    {"new[]", [](std::size_t n) { return operator new[](n); },
     [](void *p, std::size_t) { operator delete[](p); }, true},
    {"new[], sized delete[]", [](std::size_t n) { return operator new[](n); },
     [](void *p, std::size_t n) { operator delete[](p, n); }, true},
    {"new nothrow", [](std::size_t n) { return operator new(n, std::nothrow); },
     [](void *p, std::size_t) { operator delete(p, std::nothrow); }, false},
    {"new[] nothrow", [](std::size_t n) { return operator new[](n, std::nothrow); },
     [](void *p, std::size_t) { operator delete[](p, std::nothrow); }, false},
    {"aligned new", [](std::size_t n) { return operator new(n, ALIGN); },
     [](void *p, std::size_t) { operator delete(p, ALIGN); }, true},
    {"aligned new, sized delete", [](std::size_t n) { return operator new(n, ALIGN); },
     [](void *p, std::size_t n) { operator delete(p, n, ALIGN); }, true},
    {"aligned new[]", [](std::size_t n) { return operator new[](n, ALIGN); },
     [](void *p, std::size_t) { operator delete[](p, ALIGN); }, true},
    {"aligned new[], sized delete[]", [](std::size_t n) { return operator new[](n, ALIGN); },
     [](void *p, std::size_t n) { operator delete[](p, n, ALIGN); }, true},
    {"aligned new nothrow", [](std::size_t n) { return operator new(n, ALIGN, std::nothrow); },
     [](void *p, std::size_t) { operator delete(p, ALIGN, std::nothrow); }, false},
    {"aligned new[] nothrow", [](std::size_t n) { return operator new[](n, ALIGN, std::nothrow); },
     [](void *p, std::size_t) { operator delete[](p, ALIGN, std::nothrow); }, false},
};

const std::size_t SIZES[] = {0, 1, 8, 16, 100, 1000, 5000, 33000, 100000, 5000000};

#ifdef REPLACE

// What the program's own operators put in front of each block, to know them again.
constexpr std::uint64_t MARK = 0x4f574e21;
std::atomic<long> live;

} // namespace

void *operator new(std::size_t size) {
    auto *block = static_cast<char *>(std::malloc(size + 16));
    if (!block)
        throw std::bad_alloc();
    std::memcpy(block, &MARK, sizeof MARK);
    live++;
    return block + 16;
}

void operator delete(void *block) noexcept {
    if (!block)
        return;
    char *own = static_cast<char *>(block) - 16;
    EXPECT(std::memcmp(own, &MARK, sizeof MARK) == 0);
    live--;
    std::free(own);
}

void *operator new(std::size_t size, std::align_val_t align) {
    auto *block = static_cast<char *>(std::aligned_alloc(std::size_t(align), size + std::size_t(align)));
    if (!block)
        throw std::bad_alloc();
    std::memcpy(block, &MARK, sizeof MARK);
    live++;
    return block + std::size_t(align);
}

void operator delete(void *block, std::align_val_t align) noexcept {
    if (!block)
        return;
    char *own = static_cast<char *>(block) - std::size_t(align);
    EXPECT(std::memcmp(own, &MARK, sizeof MARK) == 0);
    live--;
    std::free(own);
}

namespace {

void all_forms_go_through_the_programs_own() {
    for (const Form &form : FORMS) {
        for (std::size_t size : SIZES) {
            long before = live;
            void *block = form.allocate(size);
            EXPECT(block && live == before + 1);
            std::memset(block, 1, size);
            form.release(block, size);
            EXPECT(live == before);
        }
    }
}

#else

bool is_aligned_form(const Form &form) { return std::strncmp(form.name, "aligned", 7) == 0; }

void blocks_of_all_forms_are_this_heaps() {
    for (const Form &form : FORMS) {
        for (std::size_t size : SIZES) {
            void *block = form.allocate(size);
            EXPECT(block && malloc_usable_size(block) >= size);
            EXPECT(std::uintptr_t(block) % (is_aligned_form(form) ? std::size_t(ALIGN) : 16) == 0);
            std::memset(block, 1, size);
            // A size that is wrong does not matter, as with glibc.
            form.release(block, size + 12345);
            void *other = form.allocate(size);
            EXPECT(other && other != form.allocate(size));
            form.release(other, size);
            form.release(nullptr, size);
        }
    }
}

void every_alignment_is_kept() {
    for (std::size_t align = 1; align <= 1 << 23; align *= 2) {
        void *block = operator new(100, std::align_val_t(align));
        EXPECT(block && std::uintptr_t(block) % align == 0);
        operator delete(block, std::align_val_t(align));
    }
}

void an_alignment_that_is_none_throws() {
    try {
        EXPECT(!operator new(100, std::align_val_t(48)));
        EXPECT(!"thrown");
    } catch (const std::bad_alloc &) {
    }
}

#endif

void refused_requests_throw_or_return_null() {
    for (const Form &form : FORMS) {
        bool thrown = false;
        void *block = nullptr;
        try {
            block = form.allocate(too_much);
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        EXPECT(thrown == form.throws && block == nullptr);
    }
}

#ifndef REPLACE

int asked;

void give_up_the_third_time() {
    if (++asked == 3)
        std::set_new_handler(nullptr);
}

struct Weary {};

void the_new_handler_is_asked_until_it_gives_up() {
    for (const Form &form : FORMS) {
        asked = 0;
        std::set_new_handler(give_up_the_third_time);
        try {
            EXPECT(form.allocate(too_much) == nullptr && !form.throws);
        } catch (const std::bad_alloc &) {
            EXPECT(form.throws);
        }
        EXPECT(asked == 3);
        std::set_new_handler([] { throw Weary(); });
        try {
            if (form.throws) {
                form.allocate(too_much);
                EXPECT(!"thrown");
            }
        } catch (const Weary &) {
        }
    }
}

std::vector<void *> hoard;

void give_back() {
    EXPECT(!hoard.empty());
    std::free(hoard.back());
    hoard.pop_back();
}

void the_new_handler_can_make_room() {
    struct rlimit address_space = {512 << 20, 512 << 20};
    EXPECT(setrlimit(RLIMIT_AS, &address_space) == 0);
    hoard.reserve(100);
    while (void *block = std::malloc(32 << 20))
        hoard.push_back(block);
    std::size_t before = hoard.size();
    EXPECT(before > 8);
    std::set_new_handler(give_back);
    // Not a `new` expression, which the compiler may leave out.
    void *block = operator new[](150 << 20);
    EXPECT(block && hoard.size() < before);
    operator delete[](block);
}

#endif

void a_program_of_many_parts_works() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([i] {
            std::map<std::string, std::vector<int>> words;
            for (int j = 0; j < 20000; j++) {
                std::ostringstream text;
                text << "word " << (j * 7 + i) % 3000 << " of many";
                words[text.str()].push_back(j);
            }
            EXPECT(words.size() == 3000);
            std::exception_ptr kept;
            try {
                throw std::string(1000, 'x');
            } catch (...) {
                kept = std::current_exception();
            }
            EXPECT(kept);
        });
    for (auto &thread : threads)
        thread.join();
}

struct Rule {
    const char *name;
    void (*follow)();
};

#define RULE(name) {#name, name}
const Rule RULES[] = {
#ifdef REPLACE
    RULE(all_forms_go_through_the_programs_own),
#else
    RULE(blocks_of_all_forms_are_this_heaps),
    RULE(every_alignment_is_kept),
    RULE(an_alignment_that_is_none_throws),
    RULE(the_new_handler_is_asked_until_it_gives_up),
    RULE(the_new_handler_can_make_room),
#endif
    RULE(refused_requests_throw_or_return_null),
    RULE(a_program_of_many_parts_works),
};

} // namespace

int main(int count, char **arguments) {
    for (const Rule &rule : RULES) {
        if (count < 2) {
            std::puts(rule.name);
        } else if (std::strcmp(arguments[1], rule.name) == 0) {
            rule.follow();
            return 0;
        }
    }
    return count < 2 ? 0 : 2;
}
