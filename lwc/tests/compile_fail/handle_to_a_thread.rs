// So does its name, copyable as it is.
fn main() {
    let handle = lwc::getlwc().unwrap().handle();
    std::thread::spawn(move || handle.switch(&[]));
}
