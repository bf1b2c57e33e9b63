// A context belongs to its thread.
fn main() {
    let context = lwc::getlwc().unwrap();
    std::thread::spawn(move || drop(context));
}
