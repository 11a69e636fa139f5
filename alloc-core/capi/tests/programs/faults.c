/* Faults that memcheck finds, one a run: its name is the argument. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <malloc.h>

static volatile char seen;

static void read_after_free(void) {
    char *small = malloc(100), *large = malloc(100000);
    memset(small, 1, 100);
    memset(large, 1, 100000);
    free(small);
    free(large);
    seen = small[40];
    seen = large[40];
}

static void write_behind(void) {
    free(calloc(10, 10));
    char *block = calloc(10, 10);
    block[100] = 1;
    free(block);
}

static void write_behind_what_realloc_left(void) {
    char *block = realloc(malloc(100), 97);
    block[97] = 1;
    free(block);
}

static void read_what_realloc_added(void) {
    char *block = malloc(100);
    memset(block, 1, 100);
    block = realloc(block, 5000);
    if (block[99] == 2)
        puts("no");
    if (block[100] == 1)
        puts("by chance");
    free(block);
}

static void leak(void) {
    static void *volatile block;
    block = malloc(1234);
    block = aligned_alloc(64, 4321);
    block = malloc(77777);
    block = NULL;
}

/* Everything as it should be. */
static void nothing(void) {
    char *block = NULL;
    size_t have = 0;
    for (size_t size = 1; size < 20000000; size = size * 3 / 2 + 1) {
        block = realloc(block, size);
        for (size_t index = 0; index < have; index += 1 + have / 100)
            if (block[index] != 7)
                abort();
        memset(block, 7, size);
        have = malloc_usable_size(block);
        memset(block, 7, have);
    }
    for (size_t size = have; size > 10; size /= 3) {
        block = realloc(block, size);
        if (block[size - 1] != 7)
            abort();
    }
    char *zeros = calloc(1000, 300), *aligned = memalign(4096, 10000);
    if (zeros[299999] != 0 || (uintptr_t)aligned % 4096 != 0)
        abort();
    memset(aligned, 1, 10000);
    free(aligned);
    free(zeros);
    free(block);
    free(NULL);
}

static const struct {
    const char *name;
    void (*run)(void);
} FAULTS[] = {
    {"read_after_free", read_after_free},
    {"write_behind", write_behind},
    {"write_behind_what_realloc_left", write_behind_what_realloc_left},
    {"read_what_realloc_added", read_what_realloc_added},
    {"leak", leak},
    {"nothing", nothing},
};

int main(int count, char **arguments) {
    for (size_t index = 0; index < sizeof FAULTS / sizeof *FAULTS; index++)
        if (count == 2 && strcmp(arguments[1], FAULTS[index].name) == 0) {
            FAULTS[index].run();
            return 0;
        }
    return 2;
}
