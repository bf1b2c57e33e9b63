//! The files of this crate as texts, for programs that build functions on
//! machines which have nothing else of it.

/// The headers for functions in C and C++: names and contents.
pub const HEADERS: [(&str, &str); 3] = [
    ("lwc_function.h", include_str!("../include/lwc_function.h")),
    (
        "lwc_function.hpp",
        include_str!("../include/lwc_function.hpp"),
    ),
    (
        "lwc_function_testing.h",
        include_str!("../include/lwc_function_testing.h"),
    ),
];

/// The crate itself, as far as cargo needs it to build functions in Rust: paths
/// within its folder, and contents.
pub const CRATE: [(&str, &str); 11] = [
    ("Cargo.toml", include_str!("../Cargo.toml")),
    ("src/lib.rs", include_str!("lib.rs")),
    ("src/abi.rs", include_str!("abi.rs")),
    ("src/call.rs", include_str!("call.rs")),
    ("src/error.rs", include_str!("error.rs")),
    ("src/sources.rs", include_str!("sources.rs")),
    ("src/testing.rs", include_str!("testing.rs")),
    ("src/testing/callees.rs", include_str!("testing/callees.rs")),
    ("include/lwc_function.h", HEADERS[0].1),
    ("include/lwc_function.hpp", HEADERS[1].1),
    ("include/lwc_function_testing.h", HEADERS[2].1),
];
