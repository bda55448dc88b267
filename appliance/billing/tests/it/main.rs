//! What is to be paid, when, and what happens if it is not.

mod arrears;
mod budget;
mod commerce;
mod common;
mod crashes;
mod invoice;
mod replay;
mod settlement;
mod shop;
mod spot;
mod subscription;
mod verify;
mod year;
