// Returning twice takes one, too; lwc::spawn does not.
fn main() {
    let _ = lwc::create(&[], lwc::Flags::empty());
}
