// Whoever was lent a handle does not close it for others.
fn main() {
    let context = lwc::getlwc().unwrap();
    let _ = context.handle().close();
}
