// What the bindings use of the header of that name. Of the functions only `free` is there, and it does nothing; the others are used by
// the bindings' own `cabi_realloc`, which the one of this folder replaces.

#ifndef STDLIB_H
#define STDLIB_H

#include <stddef.h>

void *realloc(void *old, size_t size);
void free(void *memory);
_Noreturn void abort(void);

/// Memory for what is passed in and for what is answered, as long as the call lasts. Where there is no more, the call ends.
void *cabi_realloc(void *old, size_t old_size, size_t alignment, size_t size);

#endif
