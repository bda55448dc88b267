//! The interface as a client sees it, over real sockets and the real use cases; only the adapters are fakes.

mod access;
mod accounts;
mod bills;
mod commerce;
mod console;
mod deployment;
mod envelope;
mod events;
mod fakes;
mod host;
mod images;
mod instances;
mod networks;
mod openapi;
mod plugins;
