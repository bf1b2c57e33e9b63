//! The work: what goes in, and what has to come out.

/// As much as every peer takes: a region of lwc, the memory in functions.wat.
pub const MAX: usize = 1 << 20;

/// Bytes to work on: letters and others, the same from neither end.
pub fn input(len: usize) -> Vec<u8> {
    (0..len).map(|i| b"light-weight "[i % 13]).collect()
}

/// What a chain answers.
pub fn expected(steps: &[impl AsRef<str>], input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for step in steps {
        match step.as_ref() {
            "upper" => bytes.make_ascii_uppercase(),
            _ => bytes.reverse(),
        }
    }
    bytes
}
