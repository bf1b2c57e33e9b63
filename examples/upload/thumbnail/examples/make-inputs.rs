//! Draws the example's pictures and signs them as a sender would.
//! `cargo run --example make-inputs` in this folder writes them into `..`.

use hmac::{Hmac, Mac};
use image::{ImageFormat, Rgb, RgbImage};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let key = std::fs::read(home.join("demo-hmac.key"))?;
    let picture = RgbImage::from_fn(320, 240, |x, y| {
        let (dx, dy) = (x as i32 - 160, y as i32 - 120);
        let ring = (dx * dx + dy * dy) / 900 % 2 == 0;
        let shade = (x * 255 / 320) as u8;
        if ring {
            Rgb([shade, 96, 255 - shade])
        } else {
            Rgb([240, 240, (y * 255 / 240) as u8])
        }
    });
    for (name, format) in [
        ("picture.png", ImageFormat::Png),
        ("picture.jpg", ImageFormat::Jpeg),
    ] {
        let path = home.join(name);
        picture.save_with_format(&path, format)?;
        let bytes = std::fs::read(&path)?;
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key)?;
        mac.update(&bytes);
        let tag = mac.finalize().into_bytes();
        let mut signed: Vec<u8> = tag
            .iter()
            .flat_map(|b| format!("{b:02x}").into_bytes())
            .collect();
        signed.push(b'\n');
        signed.extend(bytes);
        std::fs::write(home.join(format!("{name}.signed")), signed)?;
    }
    Ok(())
}
