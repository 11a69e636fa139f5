// The rules of the malloc family, one function each: `rules NAME` follows one of them and exits
// with 0, or says on stderr what was broken and exits with 1. `rules` alone lists the names.
//
// Compiled with -fno-builtin, so that no call is optimised away.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT(condition)                                                                       \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition,   \
                    errno);                                                                     \
            _exit(1);                                                                           \
        }                                                                                       \
    } while (0)

// A value of errno that nothing sets.
#define UNTOUCHED 4711

#define MIB ((size_t)1 << 20)

// Sizes on both sides of every limit of this heap: classes, slices, segments.
static const size_t SIZES[] = {
    0,     1,     7,     8,     15,    16,      17,          24,      25,          100,
    255,   256,   257,   1000,  1024,  1025,    4095,        4096,    4097,        10000,
    32767, 32768, 32769, 32840, 32841, 65535, 65536, 65537,   200 * 1000,  MIB,     MIB + 1,     3 * MIB,
    4 * MIB - 1,  4 * MIB, 4 * MIB + 1, 5 * MIB, 16 * MIB + 5,
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

// Sizes that no process can have.
static const size_t ABSURD[] = {
    SIZE_MAX,         SIZE_MAX - 1,      SIZE_MAX - 15,     SIZE_MAX - 16, SIZE_MAX - 4095,
    SIZE_MAX - 65536, SIZE_MAX / 2 + 1,  SIZE_MAX / 2 + 16, (size_t)PTRDIFF_MAX,
    (size_t)PTRDIFF_MAX - 15, (size_t)1 << 62, (size_t)1 << 50,
};

static int is_aligned(const void *block, size_t align) { return (uintptr_t)block % align == 0; }

static void fill(char *block, size_t size, char seed) {
    for (size_t i = 0; i < size; i += size > 4 * 4096 ? 1021 : 1)
        block[i] = (char)(seed + i * 7);
    if (size)
        block[size - 1] = seed;
}

static int is_filled(const char *block, size_t size, size_t of, char seed) {
    for (size_t i = 0; i < size; i += of > 4 * 4096 ? 1021 : 1)
        if (i != of - 1 && block[i] != (char)(seed + i * 7))
            return 0;
    return 1;
}

static size_t resident_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT(file && fscanf(file, "%*s %ld", &pages) == 1);
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void every_block_is_aligned_to_16_bytes(void) {
    for (size_t size = 0; size < 40000; size += size < 2000 ? 1 : 37) {
        void *blocks[] = {malloc(size), calloc(size, 1), realloc(NULL, size), realloc(malloc(1), size + 1),
                          memalign(1, size), memalign(8, size), aligned_alloc(4, size)};
        for (size_t i = 0; i < COUNT(blocks); i++) {
            EXPECT(blocks[i] && is_aligned(blocks[i], 16));
            free(blocks[i]);
        }
    }
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        void *block = malloc(SIZES[i]);
        EXPECT(block && is_aligned(block, 16));
        free(block);
    }
}

static void requests_of_no_bytes_get_blocks_of_their_own(void) {
    char *blocks[] = {malloc(0),       malloc(0),     calloc(0, 8), calloc(8, 0), realloc(NULL, 0),
                      memalign(64, 0), valloc(0),     pvalloc(0),   reallocarray(NULL, 0, 3)};
    for (size_t i = 0; i < COUNT(blocks); i++) {
        EXPECT(blocks[i]);
        for (size_t j = 0; j < i; j++)
            EXPECT(blocks[i] != blocks[j]);
    }
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
}

static void absurd_sizes_are_refused_with_enomem(void) {
    for (size_t i = 0; i < COUNT(ABSURD); i++) {
        size_t size = ABSURD[i];
#define REFUSED(call)                        \
    do {                                     \
        errno = UNTOUCHED;                   \
        EXPECT(!(call) && errno == ENOMEM);  \
    } while (0)
        REFUSED(malloc(size));
        REFUSED(calloc(size, 1));
        REFUSED(calloc(1, size));
        REFUSED(realloc(NULL, size));
        REFUSED(reallocarray(NULL, 1, size));
        REFUSED(memalign(8, size));
        REFUSED(memalign(64, size));
        REFUSED(memalign(MIB, size));
        REFUSED(memalign(64 * MIB, size));
        REFUSED(aligned_alloc(64, size));
        REFUSED(valloc(size));
        REFUSED(pvalloc(size));
        void *result = &result;
        errno = UNTOUCHED;
        EXPECT(posix_memalign(&result, 64, size) == ENOMEM && result == &result && errno == ENOMEM);
        size_t of[] = {10, 40000, 5 * MIB};
        for (size_t j = 0; j < COUNT(of); j++) {
            char *block = malloc(of[j]);
            fill(block, of[j], 3);
            REFUSED(realloc(block, size));
            REFUSED(reallocarray(block, size, 1));
            EXPECT(is_filled(block, of[j], of[j], 3));
            free(block);
        }
    }
}

static void products_that_overflow_are_refused_with_enomem(void) {
    size_t pairs[][2] = {{SIZE_MAX, 2}, {2, SIZE_MAX}, {SIZE_MAX / 2 + 1, 2}, {(size_t)1 << 33, (size_t)1 << 33},
                         {SIZE_MAX, SIZE_MAX}, {SIZE_MAX / 3 + 1, 3}};
    char *block = malloc(100);
    fill(block, 100, 9);
    for (size_t i = 0; i < COUNT(pairs); i++) {
        REFUSED(calloc(pairs[i][0], pairs[i][1]));
        REFUSED(reallocarray(NULL, pairs[i][0], pairs[i][1]));
        REFUSED(reallocarray(block, pairs[i][0], pairs[i][1]));
        EXPECT(is_filled(block, 100, 100, 9));
    }
    free(block);
}

static void calloc_gives_zeros_also_where_others_wrote(void) {
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            char *block = malloc(SIZES[i]);
            memset(block, 0x5a, malloc_usable_size(block));
            free(block);
            block = calloc(1, SIZES[i]);
            EXPECT(block);
            for (size_t at = 0; at < SIZES[i]; at++)
                EXPECT(block[at] == 0);
            memset(block, 0x5a, SIZES[i]);
            free(block);
        }
    }
}

static void realloc_to_nothing_frees_and_returns_null(void) {
    size_t before = resident_bytes();
    for (int i = 0; i < 2000; i++) {
        char *block = malloc(i % 2 ? MIB : 5000);
        memset(block, 1, i % 2 ? MIB : 5000);
        errno = UNTOUCHED;
        if (i % 3)
            EXPECT(!realloc(block, 0));
        else
            EXPECT(!reallocarray(block, i % 5 ? 0 : 7, i % 5 ? 7 : 0));
        EXPECT(errno == UNTOUCHED);
    }
    EXPECT(resident_bytes() < before + 200 * MIB);
}

static void realloc_keeps_the_contents(void) {
    for (size_t i = 1; i < COUNT(SIZES); i++) {
        for (size_t j = 1; j < COUNT(SIZES); j++) {
            size_t from = SIZES[i], to = SIZES[j], both = from < to ? from : to;
            char *block = malloc(from);
            fill(block, from, (char)i);
            block = realloc(block, to);
            EXPECT(block && is_aligned(block, 16) && malloc_usable_size(block) >= to);
            EXPECT(is_filled(block, both, from, (char)i));
            memset(block, 7, to);
            free(block);
        }
    }
    char *block = NULL;
    for (size_t size = 1; size < 300000; size += size / 50 + 1) {
        block = realloc(block, size);
        EXPECT(block);
        block[size - 1] = (char)(size % 100);
    }
    for (size_t size = 1; size < 300000; size += size / 50 + 1)
        EXPECT(block[size - 1] == (char)(size % 100));
    free(block);
}

static void blocks_that_shrink_give_memory_back(void) {
    size_t before = resident_bytes();
    char *blocks[64];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = malloc(6 * MIB);
        memset(blocks[i], 1, 6 * MIB);
        blocks[i] = realloc(blocks[i], 100);
        EXPECT(blocks[i] && malloc_usable_size(blocks[i]) < 4096);
    }
    EXPECT(resident_bytes() < before + 100 * MIB);
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
}

static void posix_memalign_refuses_odd_alignments_with_einval(void) {
    size_t odd[] = {0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 24, 48, 100, 4095, 4097, SIZE_MAX, SIZE_MAX - 7};
    for (size_t i = 0; i < COUNT(odd); i++) {
        void *result = &result;
        errno = UNTOUCHED;
        EXPECT(posix_memalign(&result, odd[i], 100) == EINVAL);
        EXPECT(result == &result && errno == UNTOUCHED);
    }
}

static void posix_memalign_keeps_every_alignment(void) {
    for (size_t align = sizeof(void *); align; align *= 2) {
        void *result = &result;
        errno = UNTOUCHED;
        int status = posix_memalign(&result, align, 100);
        if (status == 0) {
            EXPECT(is_aligned(result, align) && errno == UNTOUCHED);
            free(result);
        } else {
            EXPECT(status == ENOMEM && result == &result && errno == ENOMEM);
        }
        // Whatever address space a process has, this much it has.
        EXPECT(status == 0 || align > (size_t)1 << 40);
    }
}

static void memalign_rounds_odd_alignments_up(void) {
    for (size_t align = 0; align < 5000; align++) {
        size_t power = 1;
        while (power < align)
            power *= 2;
        void *(*functions[])(size_t, size_t) = {memalign, aligned_alloc};
        for (size_t i = 0; i < 2; i++) {
            void *block = functions[i](align, align % 300);
            EXPECT(block && is_aligned(block, power) && is_aligned(block, 16));
            free(block);
        }
    }
    size_t impossible[] = {SIZE_MAX, SIZE_MAX / 2 + 2};
    for (size_t i = 0; i < COUNT(impossible); i++) {
        errno = UNTOUCHED;
        EXPECT(!memalign(impossible[i], 10) && errno == EINVAL);
        errno = UNTOUCHED;
        EXPECT(!aligned_alloc(impossible[i], 10) && errno == EINVAL);
    }
    REFUSED(memalign(SIZE_MAX / 2 + 1, 10));
}

static void aligned_blocks_are_blocks_like_others(void) {
    for (size_t align = 16; align <= 64 * MIB; align *= 2) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            char *block = memalign(align, SIZES[i]);
            EXPECT(block && is_aligned(block, align) && malloc_usable_size(block) >= SIZES[i]);
            fill(block, SIZES[i], 5);
            size_t more = SIZES[i] + SIZES[i] / 2 + 1;
            block = realloc(block, more);
            EXPECT(block && is_filled(block, SIZES[i], SIZES[i], 5));
            block[more - 1] = 1;
            free(block);
        }
    }
}

static void valloc_and_pvalloc_align_to_pages(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        char *block = valloc(SIZES[i]);
        EXPECT(block && is_aligned(block, page) && malloc_usable_size(block) >= SIZES[i]);
        free(block);
        block = pvalloc(SIZES[i]);
        size_t whole = SIZES[i] ? (SIZES[i] + page - 1) / page * page : page;
        EXPECT(block && is_aligned(block, page) && malloc_usable_size(block) >= whole);
        memset(block, 1, whole);
        free(block);
    }
    for (size_t below = 0; below < 2 * page; below += 15)
        REFUSED(pvalloc(SIZE_MAX - below));
}

static void all_usable_bytes_can_be_used(void) {
    EXPECT(malloc_usable_size(NULL) == 0);
    char *blocks[COUNT(SIZES)];
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        blocks[i] = malloc(SIZES[i]);
        size_t usable = malloc_usable_size(blocks[i]);
        EXPECT(usable >= SIZES[i]);
        memset(blocks[i], (int)i, usable);
    }
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        size_t usable = malloc_usable_size(blocks[i]);
        for (size_t at = 0; at < usable; at++)
            EXPECT(blocks[i][at] == (char)i);
        // As many bytes as are usable are no reason to move.
        EXPECT(realloc(blocks[i], usable) == blocks[i]);
        free(blocks[i]);
    }
}

static void *count_blocks(void *unused) {
    (void)unused;
    errno = UNTOUCHED;
    free(malloc(100)); // This thread's first.
    EXPECT(errno == UNTOUCHED);
    return NULL;
}

static void errno_is_left_alone_where_nothing_fails(void) {
    errno = UNTOUCHED;
    free(NULL);
    for (int round = 0; round < 20; round++) {
        void *blocks[COUNT(SIZES)];
        for (size_t i = 0; i < COUNT(SIZES); i++)
            blocks[i] = malloc(SIZES[i]);
        for (size_t i = 0; i < COUNT(SIZES); i++)
            blocks[i] = realloc(blocks[i], SIZES[COUNT(SIZES) - 1 - i] + 1);
        for (size_t i = 0; i < COUNT(SIZES); i++)
            free(blocks[i]);
        free(calloc(1, SIZES[round]));
        malloc_trim(0);
    }
    EXPECT(errno == UNTOUCHED);
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, count_blocks, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
}

static void the_c_librarys_own_blocks_come_from_here(void) {
    char *text = NULL, *line = NULL;
    size_t size = 0, room = 0;
    EXPECT(asprintf(&text, "%0*d", 5000, 1) == 5000);
    FILE *memory = open_memstream(&line, &size);
    for (int i = 0; i < 10000; i++)
        fputc('x', memory);
    fclose(memory);
    FILE *file = fopen("/proc/self/maps", "r");
    char *first = NULL;
    EXPECT(file && getline(&first, &room, file) > 0);
    fclose(file);
    char *blocks[] = {text, line, first, strdup("abc"), strndup("abcdef", 3), getcwd(NULL, 0),
                      realpath(".", NULL)};
    for (size_t i = 0; i < COUNT(blocks); i++) {
        EXPECT(blocks[i] && malloc_usable_size(blocks[i]) > strlen(blocks[i]));
        blocks[i] = realloc(blocks[i], 70000);
        EXPECT(blocks[i]);
        free(blocks[i]);
    }
}

static void every_other_name_leads_to_the_same_heap(void) {
    void *(*allocate)(size_t) = dlsym(RTLD_DEFAULT, "__libc_malloc");
    void *(*align)(size_t, size_t) = dlsym(RTLD_DEFAULT, "__libc_memalign");
    void *(*zeroed)(size_t, size_t) = dlsym(RTLD_DEFAULT, "__libc_calloc");
    void *(*resize)(void *, size_t) = dlsym(RTLD_DEFAULT, "__libc_realloc");
    EXPECT(allocate && align && zeroed && resize);
    free(allocate(10));
    free(align(256, 10));
    free(resize(zeroed(3, 7), 70000));
    free(resize(malloc(10), 70));
    const char *names[] = {"__libc_free", "cfree", "free_sized", "free_aligned_sized"};
    for (size_t i = 0; i < COUNT(names); i++) {
        // Arguments that a function does not take are ignored by these platforms' calls.
        void (*release)(void *, size_t, size_t) = dlsym(RTLD_DEFAULT, names[i]);
        EXPECT(release);
        release(memalign(64, 100), 64, 100);
        release(memalign(64, 100000), 64, 100000);
        release(NULL, 64, 0);
    }
}

static void trimming_gives_memory_back(void) {
    enum { BLOCKS = 60000 };
    static char *blocks[BLOCKS];
    size_t before = resident_bytes();
    for (int i = 0; i < BLOCKS; i++)
        memset(blocks[i] = malloc(1000), 1, 1000);
    EXPECT(resident_bytes() > before + 50 * MIB);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    EXPECT(malloc_trim(0) == 1);
    EXPECT(malloc_trim(0) == 0);
    EXPECT(resident_bytes() < before + 10 * MIB);
}

static void mallinfo_counts_live_bytes(void) {
    enum { BLOCKS = 3000 };
    static char *blocks[BLOCKS];
    struct mallinfo2 before = mallinfo2();
    size_t asked = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i * 20;
        blocks[i] = malloc(size);
        asked += size;
    }
    struct mallinfo2 full = mallinfo2();
    EXPECT(full.uordblks >= before.uordblks + asked);
    // Blocks above 32 KiB are whole slices of 64.
    EXPECT(full.uordblks <= before.uordblks + 2 * asked);
    EXPECT(full.arena >= full.uordblks && full.arena - full.uordblks == full.fordblks);
    EXPECT(mallinfo().uordblks == (int)full.uordblks);
    char *huge = malloc(50 * MIB);
    EXPECT(mallinfo2().hblkhd >= full.hblkhd + 50 * MIB && mallinfo2().hblks == full.hblks + 1);
    free(huge);
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    EXPECT(mallinfo2().uordblks <= before.uordblks + 10000);
}

static void small_requests_get_larger_blocks_when_memory_is_out(void) {
    void *block = malloc(8000);
    struct rlimit address_space = {4096, 4096};
    EXPECT(setrlimit(RLIMIT_AS, &address_space) == 0);
    for (size_t size = 1 * MIB; size; size /= 2)
        while (malloc(size))
            ;
    free(block);
    void *small = malloc(16);
    EXPECT(small && malloc_usable_size(small) >= 16);
    free(small);
    REFUSED(malloc(9000));
}

static void a_block_freed_twice_in_a_row_ends_the_process(void) {
    char *block = malloc(100);
    fprintf(stderr, "%p\n", (void *)block);
    free(block);
    free(block);
}

static void a_block_freed_twice_with_others_between_ends_the_process(void) {
    void *volatile blocks[20];
    for (size_t i = 0; i < COUNT(blocks); i++)
        EXPECT(blocks[i] = malloc(20));
    fprintf(stderr, "%p\n", blocks[0]);
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
    free(blocks[0]); // At once, or when the program exits.
}

static void a_foreign_address_is_named_and_ends_the_process(void) {
    static char foreign[64];
    fprintf(stderr, "%p\n", (void *)(foreign + 16));
    free(foreign + 16);
}

static void a_large_address_is_named_and_ends_the_process(void) {
    fprintf(stderr, "%p\n", (void *)((uintptr_t)1 << 60));
    free((void *)((uintptr_t)1 << 60));
}

// Begins with as little address space as it has then, and needs its first block. Run with no
// output before, which would need one.
static void a_program_can_limit_itself_before_its_first_request(void) {
    struct rlimit address_space = {4096, 4096};
    EXPECT(setrlimit(RLIMIT_AS, &address_space) == 0);
    char *blocks[1000];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = malloc(i * 4);
        EXPECT(blocks[i]);
        memset(blocks[i], 1, i * 4);
    }
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
}

static void *nothing(void *argument) { return argument; }

static void *wait_for_others(void *barrier) {
    pthread_barrier_wait(barrier);
    return NULL;
}

// What the heap has set aside by then leaves room for the stacks of a few threads, of 8 MiB each.
static void a_program_can_limit_itself_while_it_runs(void) {
    enum { THREADS = 5 };
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;
    pthread_attr_t attributes;
    void *block = malloc(100);
    struct rlimit address_space = {128 * MIB, 128 * MIB};
    EXPECT(block && setrlimit(RLIMIT_AS, &address_space) == 0);
    EXPECT(pthread_attr_init(&attributes) == 0);
    EXPECT(pthread_attr_setstacksize(&attributes, 8 * MIB) == 0);
    EXPECT(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&threads[i], &attributes, wait_for_others, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
    free(block);
}

static void *allocate_a_few_of_each(void *barrier) {
    char *blocks[20];
    for (size_t i = 0; i < COUNT(blocks); i++)
        EXPECT((blocks[i] = calloc(1, 24 * (i + 1))));
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
    return NULL;
}

// A thread's blocks of a size lie in a page of its own, of which it touches little.
static void many_threads_of_few_blocks_take_little_memory(void) {
    enum { THREADS = 300 };
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;
    pthread_attr_t attributes;
    EXPECT(pthread_attr_init(&attributes) == 0);
    EXPECT(pthread_attr_setstacksize(&attributes, MIB / 4) == 0);
    EXPECT(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0);
    size_t before = resident_bytes();
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&threads[i], &attributes, allocate_a_few_of_each, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    size_t more = resident_bytes() - before;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
    EXPECT(more < THREADS * (MIB / 2));
}

// Fills the address space, so that nothing more can be mapped.
static void use_up_memory(size_t limit) {
    struct rlimit address_space = {limit, limit};
    EXPECT(setrlimit(RLIMIT_AS, &address_space) == 0);
    for (size_t size = 64 * MIB; size; size /= 2)
        while (malloc(size))
            ;
    EXPECT(errno == ENOMEM);
}

static void threads_can_be_tried_when_memory_is_out(void) {
    use_up_memory(256 * MIB);
    for (int i = 0; i < 1000; i++) {
        pthread_t thread;
        int status = pthread_create(&thread, NULL, nothing, NULL);
        EXPECT(status == 0 || status == EAGAIN || status == ENOMEM);
        if (status == 0)
            pthread_join(thread, NULL);
        errno = UNTOUCHED;
        void *block = malloc(1 << i % 20);
        EXPECT(block || errno == ENOMEM);
    }
}

static void *allocate_a_little(void *barrier) {
    pthread_barrier_wait(barrier);
    void *block = malloc(16);
    EXPECT(block);
    free(block);
    return NULL;
}

// What was freed is there for threads that wait for their first block, and for the stacks of new ones.
static void threads_have_what_was_freed_when_memory_was_out(void) {
    enum { THREADS = 8 };
    pthread_t waiting[THREADS], threads[2 * THREADS];
    pthread_barrier_t barrier;
    EXPECT(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&waiting[i], NULL, allocate_a_little, &barrier) == 0);
    struct rlimit address_space = {512 * MIB, 512 * MIB};
    EXPECT(setrlimit(RLIMIT_AS, &address_space) == 0);
    void **last = NULL;
    for (void **block; (block = malloc(20000)); last = block)
        *block = last;
    while (mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        ;
    while (last) {
        void **block = last;
        last = *block;
        free(block);
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_join(waiting[i], NULL) == 0);
    pthread_barrier_t all;
    EXPECT(pthread_barrier_init(&all, NULL, COUNT(threads) + 1) == 0);
    for (size_t i = 0; i < COUNT(threads); i++)
        EXPECT(pthread_create(&threads[i], NULL, allocate_a_little, &all) == 0);
    pthread_barrier_wait(&all);
    for (size_t i = 0; i < COUNT(threads); i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
}

static void *allocate_or_not(void *barrier) {
    pthread_barrier_wait(barrier);
    for (int i = 0; i < 1000; i++) {
        char *block = malloc(1 << i % 16);
        if (block)
            block[0] = 1;
        free(block);
    }
    return NULL;
}

static void threads_find_memory_out_at_their_first_request(void) {
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&threads[i], NULL, allocate_or_not, &barrier) == 0);
    use_up_memory(512 * MIB);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
}

static atomic_int stop;

static void *churn(void *unused) {
    (void)unused;
    char *blocks[64] = {0};
    for (unsigned i = 0; !stop; i++) {
        free(blocks[i % 64]);
        blocks[i % 64] = malloc(SIZES[i % 26]);
    }
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    return NULL;
}

static void a_child_of_a_threaded_process_goes_on(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        EXPECT(pthread_create(&threads[i], NULL, churn, NULL) == 0);
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        EXPECT(child >= 0);
        if (child == 0) {
            alarm(20);
            char *blocks[200];
            for (size_t j = 0; j < 200; j++)
                memset(blocks[j] = malloc(SIZES[j % 26]), 1, SIZES[j % 26]);
            for (size_t j = 0; j < 200; j++)
                free(blocks[j]);
            pthread_t thread;
            if (pthread_create(&thread, NULL, count_blocks, NULL) || pthread_join(thread, NULL))
                _exit(2);
            _exit(7);
        }
        int status;
        EXPECT(waitpid(child, &status, 0) == child);
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    stop = 1;
    for (int i = 0; i < 4; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
}

static void programs_are_started_while_threads_allocate(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        EXPECT(pthread_create(&threads[i], NULL, churn, NULL) == 0);
    for (int i = 0; i < 20; i++) {
        EXPECT(system("exit 3") == 3 << 8);
        FILE *pipe = popen("echo hello", "r");
        char text[16] = "";
        EXPECT(pipe && fgets(text, sizeof text, pipe) && strcmp(text, "hello\n") == 0);
        EXPECT(pclose(pipe) == 0);
        pid_t child = vfork();
        if (child == 0) {
            execlp("true", "true", (char *)NULL);
            _exit(127);
        }
        int status;
        EXPECT(waitpid(child, &status, 0) == child && status == 0);
    }
    stop = 1;
    for (int i = 0; i < 2; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
}

static pthread_key_t keys[40];

static void allocate_at_the_end(void *block) {
    // Runs after this thread's heap was handed on, and again in the next round.
    static _Thread_local int round;
    free(block);
    free(malloc(3000));
    if (round++ < 60)
        pthread_setspecific(keys[round % 40], strdup("again"));
}

static void *leave_blocks(void *barrier) {
    for (int i = 0; i < 40; i++)
        pthread_setspecific(keys[i], malloc(100 + (size_t)i));
    char *mine = malloc(500);
    memset(mine, 5, 500);
    if (barrier)
        pthread_barrier_wait(barrier);
    return mine;
}

static void ending_threads_allocate_and_leave_blocks(void) {
    // More keys than glibc has room for in a thread's own record.
    for (int i = 0; i < 40; i++)
        EXPECT(pthread_key_create(&keys[i], allocate_at_the_end) == 0);
    for (int round = 0; round < 100; round++) {
        pthread_t threads[8];
        for (int i = 0; i < 8; i++)
            EXPECT(pthread_create(&threads[i], NULL, leave_blocks, NULL) == 0);
        for (int i = 0; i < 8; i++) {
            void *left;
            EXPECT(pthread_join(threads[i], &left) == 0);
            EXPECT(malloc_usable_size(left) >= 500 && ((char *)left)[499] == 5);
            free(left);
        }
    }
}

static atomic_int handled;

static void allocate_in_handler(int signal) {
    static _Thread_local void *kept[8];
    int number = handled++;
    free(kept[number % 8]);
    kept[number % 8] = malloc((size_t)(number * 97 % 5000));
    (void)signal;
}

static void a_signal_handler_can_allocate(void) {
    struct sigaction action = {.sa_handler = allocate_in_handler, .sa_flags = SA_RESTART};
    EXPECT(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval often = {{0, 200}, {0, 200}};
    EXPECT(setitimer(ITIMER_REAL, &often, NULL) == 0);
    char *blocks[64] = {0};
    for (unsigned i = 0; handled < 2000; i++) {
        size_t size = SIZES[i % 26];
        free(blocks[i % 64]);
        blocks[i % 64] = malloc(size);
        EXPECT(blocks[i % 64]);
        memset(blocks[i % 64], 1, size);
    }
}

struct passed {
    pthread_mutex_t lock;
    void *blocks[1000];
};

static void *pass_on(void *argument) {
    struct passed *passed = argument;
    unsigned random = (unsigned)(uintptr_t)&random | 1;
    for (int i = 0; i < 200000; i++) {
        random = random * 1664525 + 1013904223;
        size_t size = 16 + (random >> 20) % 2000;
        unsigned char *block = malloc(size);
        memset(block, (int)(size % 251), size);
        memcpy(block, &size, sizeof size);
        unsigned place = (random >> 8) % 1000;
        pthread_mutex_lock(&passed->lock);
        unsigned char *other = passed->blocks[place];
        passed->blocks[place] = block;
        pthread_mutex_unlock(&passed->lock);
        if (other) {
            memcpy(&size, other, sizeof size);
            EXPECT(other[sizeof size] == size % 251 || size == sizeof size);
            EXPECT(other[size - 1] == size % 251);
            free(other);
        }
    }
    return NULL;
}

static void blocks_are_freed_by_other_threads(void) {
    static struct passed passed = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        EXPECT(pthread_create(&threads[i], NULL, pass_on, &passed) == 0);
    for (int i = 0; i < 4; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < 1000; i++)
        free(passed.blocks[i]);
}

// Another 40 GiB lie between the first segment and the later ones: `free` has to learn of those in
// another way.
static void blocks_far_from_the_first_are_blocks_like_them(void) {
    enum { BLOCKS = 120 * 1000, SIZE = 1000 };
    static size_t *blocks[BLOCKS];
    const size_t between = (size_t)40 << 30;
    void *near = malloc(SIZE);
    EXPECT(mmap(NULL, between, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) !=
           MAP_FAILED);
    size_t far = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        EXPECT(blocks[i] = malloc(SIZE));
        *blocks[i] = i;
        uintptr_t a = (uintptr_t)near, b = (uintptr_t)blocks[i];
        far += (a > b ? a - b : b - a) > between;
    }
    EXPECT(far > 1000);
    for (size_t i = 0; i < BLOCKS; i++) {
        EXPECT(*blocks[i] == i);
        EXPECT(malloc_usable_size(blocks[i]) >= SIZE);
        if (i % 2)
            EXPECT((blocks[i] = realloc(blocks[i], 2 * SIZE)) && *blocks[i] == i);
        free(blocks[i]);
    }
    free(near);
}

static void *use_library(void *library) {
    int *(*counter)(void) = dlsym(library, "counter");
    EXPECT(counter);
    (*counter())++;
    EXPECT(*counter() == 1);
    return NULL;
}

static void libraries_come_and_go_with_their_thread_locals(void) {
    const char *path = getenv("PLUGIN");
    EXPECT(path);
    for (int round = 0; round < 50; round++) {
        void *library = dlopen(path, RTLD_NOW);
        EXPECT(library);
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            EXPECT(pthread_create(&threads[i], NULL, use_library, library) == 0);
        for (int i = 0; i < 4; i++)
            EXPECT(pthread_join(threads[i], NULL) == 0);
        EXPECT(dlclose(library) == 0);
    }
}

static char *early;

__attribute__((constructor)) static void allocate_before_main(void) {
    early = malloc(1000);
    memset(early, 4, 1000);
}

static void free_early(void) { free(early); }

__attribute__((destructor)) static void allocate_after_main(void) { free(malloc(2000)); }

static void blocks_live_from_before_main_until_after_it(void) {
    EXPECT(malloc_usable_size(early) >= 1000 && early[999] == 4);
    EXPECT(atexit(free_early) == 0);
}

static int threads(void) {
    char line[256];
    int count = 0;
    FILE *file = fopen("/proc/self/status", "r");
    EXPECT(file);
    while (fgets(line, sizeof line, file))
        sscanf(line, "Threads: %d", &count);
    fclose(file);
    return count;
}

// Frees so much that the heap starts a thread which gives it back.
static void have_the_heaps_thread(void) {
    while (threads() == 1) {
        void *blocks[32];
        for (size_t i = 0; i < COUNT(blocks); i++)
            EXPECT((blocks[i] = malloc(MIB)) && memset(blocks[i], 1, MIB));
        for (size_t i = 0; i < COUNT(blocks); i++)
            free(blocks[i]);
    }
}

static void no_thread_of_the_heaps_stays_another_users(void) {
    const unsigned user = 4711, group = 4712;
    if (geteuid() != 0)
        return; // Only root can become somebody else.
#define LEAVES_ONE(call)                    \
    do {                                    \
        have_the_heaps_thread();            \
        EXPECT((call) == 0);                \
        EXPECT(threads() == 1);             \
    } while (0)
    LEAVES_ONE(setgroups(1, &group));
    LEAVES_ONE(initgroups("nobody", group));
    LEAVES_ONE(setgid(group));
    LEAVES_ONE(setregid(group, 0));
    LEAVES_ONE(setegid(group));
    LEAVES_ONE(setresgid(group, group, group));
    LEAVES_ONE(setreuid(0, user));
    LEAVES_ONE(seteuid(0));
    LEAVES_ONE(setresuid(0, 0, user));
    LEAVES_ONE(setuid(user));
    EXPECT(setuid(0) == -1 && errno == EPERM);
}

static void a_user_namespace_can_be_entered_whatever_the_heap_does(void) {
    have_the_heaps_thread();
    // Forbidden altogether on some systems; it is invalid for a process of several threads.
    EXPECT(unshare(CLONE_NEWUSER) == 0 || errno != EINVAL);
    EXPECT(threads() == 1);
    EXPECT(setns(-1, 0) == -1 && errno == EBADF);
}

struct rule {
    const char *name;
    void (*follow)(void);
};

#define RULE(name) {#name, name}
static const struct rule RULES[] = {
    RULE(every_block_is_aligned_to_16_bytes),
    RULE(requests_of_no_bytes_get_blocks_of_their_own),
    RULE(absurd_sizes_are_refused_with_enomem),
    RULE(products_that_overflow_are_refused_with_enomem),
    RULE(calloc_gives_zeros_also_where_others_wrote),
    RULE(realloc_to_nothing_frees_and_returns_null),
    RULE(realloc_keeps_the_contents),
    RULE(blocks_that_shrink_give_memory_back),
    RULE(posix_memalign_refuses_odd_alignments_with_einval),
    RULE(posix_memalign_keeps_every_alignment),
    RULE(memalign_rounds_odd_alignments_up),
    RULE(aligned_blocks_are_blocks_like_others),
    RULE(valloc_and_pvalloc_align_to_pages),
    RULE(all_usable_bytes_can_be_used),
    RULE(errno_is_left_alone_where_nothing_fails),
    RULE(the_c_librarys_own_blocks_come_from_here),
    RULE(every_other_name_leads_to_the_same_heap),
    RULE(trimming_gives_memory_back),
    RULE(mallinfo_counts_live_bytes),
    RULE(small_requests_get_larger_blocks_when_memory_is_out),
    RULE(a_block_freed_twice_in_a_row_ends_the_process),
    RULE(a_block_freed_twice_with_others_between_ends_the_process),
    RULE(a_foreign_address_is_named_and_ends_the_process),
    RULE(a_large_address_is_named_and_ends_the_process),
    RULE(a_program_can_limit_itself_before_its_first_request),
    RULE(a_program_can_limit_itself_while_it_runs),
    RULE(many_threads_of_few_blocks_take_little_memory),
    RULE(threads_can_be_tried_when_memory_is_out),
    RULE(threads_have_what_was_freed_when_memory_was_out),
    RULE(threads_find_memory_out_at_their_first_request),
    RULE(a_child_of_a_threaded_process_goes_on),
    RULE(programs_are_started_while_threads_allocate),
    RULE(ending_threads_allocate_and_leave_blocks),
    RULE(a_signal_handler_can_allocate),
    RULE(blocks_are_freed_by_other_threads),
    RULE(blocks_far_from_the_first_are_blocks_like_them),
    RULE(libraries_come_and_go_with_their_thread_locals),
    RULE(blocks_live_from_before_main_until_after_it),
    RULE(no_thread_of_the_heaps_stays_another_users),
    RULE(a_user_namespace_can_be_entered_whatever_the_heap_does),
};

int main(int count, char **arguments) {
    for (size_t i = 0; i < COUNT(RULES); i++) {
        if (count < 2) {
            puts(RULES[i].name);
        } else if (strcmp(arguments[1], RULES[i].name) == 0) {
            RULES[i].follow();
            return 0;
        }
    }
    return count < 2 ? 0 : 2;
}
