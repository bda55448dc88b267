//! Real vmm processes on the real /dev/kvm. Needs root, as the product does.

mod console;
mod disk;
mod errors;
mod guest;
mod lab;
mod life;
