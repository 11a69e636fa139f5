/* Stands before the C library's heap and counts the calls of the thread that asked for it.
 *
 * Preloaded into a test. The test calls heap_calls_begin and heap_calls_end, which it finds by
 * name; the latter tells how many calls its thread made in between. Requests go on to glibc's own
 * functions by the names that glibc exports them under, so that nothing has to be looked up, which
 * could allocate. */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

/* The initial-exec model: the access itself must not allocate. */
static __thread unsigned long calls __attribute__((tls_model("initial-exec")));

void heap_calls_begin(void) { calls = 0; }

unsigned long heap_calls_end(void) { return calls; }

void *malloc(size_t size) {
    calls++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    calls++;
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size) {
    calls++;
    return __libc_realloc(block, size);
}

void *reallocarray(void *block, size_t count, size_t size) {
    calls++;
    if (size != 0 && count > SIZE_MAX / size) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(block, count * size);
}

void free(void *block) {
    calls++;
    __libc_free(block);
}

void *memalign(size_t alignment, size_t size) {
    calls++;
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    calls++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    calls++;
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0) {
        return EINVAL;
    }
    void *memory = __libc_memalign(alignment, size);
    if (memory == NULL) {
        return ENOMEM;
    }
    *block = memory;
    return 0;
}

void *valloc(size_t size) {
    calls++;
    return __libc_memalign((size_t)sysconf(_SC_PAGESIZE), size);
}

void *pvalloc(size_t size) {
    calls++;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return __libc_memalign(page, (size + page - 1) / page * page);
}
