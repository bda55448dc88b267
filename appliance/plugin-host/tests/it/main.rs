//! Policies that are components: good ones, bad ones and hostile ones.

mod admission;
mod cache;
mod commerce;
mod components;
mod everywhere;
mod guarded;
mod hostile;
mod load;
mod questions;
mod samples;
mod sessions;
mod text;
