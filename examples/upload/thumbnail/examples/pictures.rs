//! Makes the inputs of the chain `upload` in the folder above the crate: a
//! pattern of our own as PNG and JPEG, each with its signature in front.
//!
//! ```sh
//! cd examples/upload/thumbnail && cargo run --example pictures
//! ```
//!
//! With `--sign FILE` it signs a picture of yours instead, on stdout.

use hmac::{Hmac, Mac};
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, Rgb, RgbImage};
use sha2::Sha256;
use std::io::{Cursor, Write};
use std::path::Path;

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

type Failure = Box<dyn std::error::Error>;

/// Rings over a slope of two colours, with a square of pixels in one corner.
fn pattern() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        if x < 96 && y < 96 {
            let on = (x / 12 + y / 12) % 2 == 0;
            return Rgb(if on { [20, 20, 20] } else { [240, 240, 240] });
        }
        let (dx, dy) = (f64::from(x) - 400.0, f64::from(y) - 260.0);
        let ring = (dx.hypot(dy) / 24.0) as u32;
        let blue = (255 * x / WIDTH) as u8;
        let red = (255 * y / HEIGHT) as u8;
        match ring {
            0..8 if ring.is_multiple_of(2) => Rgb([250, 190, 40]),
            0..8 => Rgb([30, 90, 60]),
            _ => Rgb([red, 96, blue]),
        }
    })
}

/// The picture behind its signature: 64 hex digits and a newline.
fn signed(key: &[u8], picture: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    mac.update(picture);
    let mut out = Vec::with_capacity(picture.len() + 65);
    for byte in mac.finalize().into_bytes() {
        write!(out, "{byte:02x}")?;
    }
    out.push(b'\n');
    out.extend_from_slice(picture);
    Ok(out)
}

fn main() -> Result<(), Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let key = std::fs::read(folder.join("hmac.key"))?;
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.as_slice() {
        [] => {}
        [option, file] if option == "--sign" => {
            std::io::stdout().write_all(&signed(&key, &std::fs::read(file)?)?)?;
            return Ok(());
        }
        _ => return Err("usage: pictures [--sign FILE]".into()),
    }
    let picture = pattern();
    let mut png = Vec::new();
    picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    let mut jpeg = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, 80))?;
    std::fs::write(folder.join("picture.png"), &png)?;
    std::fs::write(folder.join("picture.jpg"), &jpeg)?;
    std::fs::write(folder.join("picture.signed"), signed(&key, &png)?)?;
    std::fs::write(folder.join("picture-jpeg.signed"), signed(&key, &jpeg)?)?;
    Ok(())
}
