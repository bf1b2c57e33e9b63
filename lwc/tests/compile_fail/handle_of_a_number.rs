// Nobody names what was not given to them: a number is a promise.
fn main() {
    let _ = lwc::Handle::from_raw(3).switch(&[]);
}
