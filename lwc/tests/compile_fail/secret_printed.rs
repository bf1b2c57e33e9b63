// A secret has no Display, and Debug shows its length alone.
fn main() {
    let secret = lwc::Secret::zeroed(4).unwrap();
    println!("{secret}");
}
