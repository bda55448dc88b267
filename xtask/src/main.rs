//! entry point

fn main() {}
