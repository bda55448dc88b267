#include "stdlib.h"
#include "string.h"

#include <stdint.h>

#define PAGE 65536

/// Where the linker's own data ends and free memory begins.
extern unsigned char __heap_base;

__attribute__((__export_name__("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t alignment, size_t size) {
    static uintptr_t end;
    uintptr_t start = end != 0 ? end : (uintptr_t)&__heap_base;
    start = (start + alignment - 1) / alignment * alignment;
    uintptr_t there = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE;
    if (start > there || size > there - start) {
        size_t missing = (size - (there - start)) / PAGE + 1;
        if (__builtin_wasm_memory_grow(0, missing) == SIZE_MAX)
            __builtin_trap();
    }
    end = start + size;
    return old_size == 0 ? (void *)start : memcpy((void *)start, old, old_size < size ? old_size : size);
}

void free(void *memory) {
    (void)memory;
}

// With bulk memory these two are one instruction each, not calls of themselves.

void *memcpy(void *restrict to, const void *restrict from, size_t length) {
    return __builtin_memcpy(to, from, length);
}

void *memset(void *to, int byte, size_t length) {
    return __builtin_memset(to, byte, length);
}

int memcmp(const void *left, const void *right, size_t length) {
    const unsigned char *a = left, *b = right;
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length] != 0)
        length++;
    return length;
}
