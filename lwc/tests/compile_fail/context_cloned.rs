// A second owner takes a second descriptor: Handle::duplicate.
fn main() {
    let context = lwc::getlwc().unwrap();
    let _twin = context.clone();
    let _: lwc::Context = _twin;
}
