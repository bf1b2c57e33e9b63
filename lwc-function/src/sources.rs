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

/// The interface of the Functions Framework for C++, for functions that are written to
/// it: names, which have folders, and contents.
pub const FUNCTIONS_FRAMEWORK: [(&str, &str); 7] = [
    (
        "google/cloud/functions/version.h",
        include_str!("../include/google/cloud/functions/version.h"),
    ),
    (
        "google/cloud/functions/http_request.h",
        include_str!("../include/google/cloud/functions/http_request.h"),
    ),
    (
        "google/cloud/functions/http_response.h",
        include_str!("../include/google/cloud/functions/http_response.h"),
    ),
    (
        "google/cloud/functions/cloud_event.h",
        include_str!("../include/google/cloud/functions/cloud_event.h"),
    ),
    (
        "google/cloud/functions/user_functions.h",
        include_str!("../include/google/cloud/functions/user_functions.h"),
    ),
    (
        "google/cloud/functions/function.h",
        include_str!("../include/google/cloud/functions/function.h"),
    ),
    (
        "google/cloud/functions/framework.h",
        include_str!("../include/google/cloud/functions/framework.h"),
    ),
];

/// The crate itself, as far as cargo needs it to build functions in Rust: paths
/// within its folder, and contents.
pub const CRATE: [(&str, &str); 18] = [
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
    (
        "include/google/cloud/functions/version.h",
        FUNCTIONS_FRAMEWORK[0].1,
    ),
    (
        "include/google/cloud/functions/http_request.h",
        FUNCTIONS_FRAMEWORK[1].1,
    ),
    (
        "include/google/cloud/functions/http_response.h",
        FUNCTIONS_FRAMEWORK[2].1,
    ),
    (
        "include/google/cloud/functions/cloud_event.h",
        FUNCTIONS_FRAMEWORK[3].1,
    ),
    (
        "include/google/cloud/functions/user_functions.h",
        FUNCTIONS_FRAMEWORK[4].1,
    ),
    (
        "include/google/cloud/functions/function.h",
        FUNCTIONS_FRAMEWORK[5].1,
    ),
    (
        "include/google/cloud/functions/framework.h",
        FUNCTIONS_FRAMEWORK[6].1,
    ),
];
