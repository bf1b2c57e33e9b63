// Sharing or unmapping arbitrary memory takes a promise.
fn main() {
    let _ = lwc::Spec::memory(0..4096, lwc::Access::Share);
}
