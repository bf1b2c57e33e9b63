// A region's bytes change under whoever looks: it stays with its thread.
fn main() {
    let region = lwc::Region::new(1).unwrap();
    std::thread::spawn(move || region.write(0, b"x"));
}
