// A library with a thread local that is found through the dynamic loader, and with memory of its
// own from its constructor to its destructor.

#include <stdlib.h>

static __thread int count;
static char *own;

int *counter(void) { return &count; }

__attribute__((constructor)) static void begin(void) { own = malloc(5000); }

__attribute__((destructor)) static void end(void) { free(own); }
