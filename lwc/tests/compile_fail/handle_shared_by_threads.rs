// Not even by reference.
fn main() {
    let handle = lwc::getlwc().unwrap().handle();
    std::thread::scope(|scope| {
        scope.spawn(|| handle.info());
    });
}
