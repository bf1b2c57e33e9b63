// Not even by reference.
fn main() {
    let handle = lwc::Handle::from_raw(3);
    std::thread::scope(|scope| {
        scope.spawn(|| handle.info());
    });
}
