//! Raw bindings to lwc.ko.
