//! Policies that are components: good ones, bad ones and hostile ones.

mod cache;
mod components;
mod guarded;
mod hostile;
mod load;
mod samples;
mod sessions;
mod text;
