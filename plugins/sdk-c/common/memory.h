// Memory for what is answered. It lasts as long as the call, and is never given back by hand.

#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>

/// Memory for `count` things of `size` bytes, not cleared. Where there is no more, the call ends.
void *allocate(size_t count, size_t size);

/// What was allocated so far lasts longer than the call: as long as the instance.
void keep_memory(void);

/// The call is answered: what was allocated since memory was last kept is used again from the next allocation on.
void release_memory(void);

#endif
