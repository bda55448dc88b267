//! The program as its user sees it: run as a process against a host made of canned answers.

mod bills;
mod commerce;
mod console;
mod deployment;
mod flash;
mod host;
mod images;
mod instances;
mod others;
mod plugins;
mod policies_in_c;
