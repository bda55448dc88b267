#![no_std]
//! Script.
