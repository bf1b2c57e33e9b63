//! Step 2: a PNG or JPEG becomes a PNG of at most 96 × 96 pixels.

use image::{ImageFormat, ImageReader, Limits, imageops::FilterType};
use lwc_function::{Error, Invocation, Level, Result};
use std::io::Cursor;

const SIDE: u32 = 96;

fn thumbnail(inv: &mut Invocation<'_>) -> Result<()> {
    let mut reader = ImageReader::new(Cursor::new(inv.input())).with_guessed_format()?;
    // A small file can claim a huge picture.
    let mut limits = Limits::default();
    limits.max_image_width = Some(8192);
    limits.max_image_height = Some(8192);
    limits.max_alloc = Some(128 << 20);
    reader.limits(limits);
    match reader.format() {
        Some(ImageFormat::Png | ImageFormat::Jpeg) => {}
        _ => return Err(Error::new(415, "neither a PNG nor a JPEG")),
    }
    let picture = reader
        .decode()
        .map_err(|e| Error::new(422, format!("cannot decode the picture: {e}")))?;
    let small = picture.resize(SIDE, SIDE, FilterType::Triangle);
    inv.log(
        Level::Info,
        format!(
            "{}x{} becomes {}x{}",
            picture.width(),
            picture.height(),
            small.width(),
            small.height()
        ),
    );
    // Encoded straight into the region that the next function reads.
    let used = {
        let mut out = Cursor::new(inv.spare_mut());
        small.write_to(&mut out, ImageFormat::Png)?;
        out.position() as usize
    };
    inv.commit(used)?;
    inv.reply_type("image/png");
    Ok(())
}

lwc_function::handler!(thumbnail, thumbnail);
