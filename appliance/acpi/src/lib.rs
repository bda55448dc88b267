//! ACPI tables of the machine
