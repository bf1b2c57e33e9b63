// The body of a context never returns into its creator's stack.
fn main() {
    let _ = lwc::spawn(&[], lwc::Flags::empty(), |_| ());
}
