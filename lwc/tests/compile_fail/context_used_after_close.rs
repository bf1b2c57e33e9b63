// Who closes a descriptor has it no more.
fn main() {
    let context = lwc::getlwc().unwrap();
    drop(context);
    let _ = context.info();
}
