// Nor is it copied by accident.
fn main() {
    let secret = lwc::Secret::zeroed(4).unwrap();
    let _: lwc::Secret = secret.clone();
}
