//! What a host image is: where things are on its disk, how its two slots are named and chosen, the signed manifest of a
//! release, and what a unified kernel image says of itself. Pure: bytes in, values out; it opens nothing.

#![forbid(unsafe_code)]
