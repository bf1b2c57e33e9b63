// So does its name, copyable as it is.
fn main() {
    let handle = lwc::Handle::from_raw(3);
    std::thread::spawn(move || handle.switch(&[]));
}
