//! Misuse that types stop: each file in `compile_fail` must not compile, for
//! the reason beside it. (`TRYBUILD=overwrite` writes the reasons anew; the
//! compiler's wording is that of the toolchain the workspace is tested with.)

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
