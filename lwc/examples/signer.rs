//! A key that one context alone has, and that signs what others ask it to.
//!
//! The root loads the key and makes the signer, a copy that has it, too; then
//! it erases its own and gives up every right over the signer. From then on the
//! signer can be asked to sign, and nothing else: the root does not trust
//! itself any more, however it may be attacked later.
//!
//! ```sh
//! cargo run -p lwc --example signer
//! ```
//!
//! Sensitive data isolation, algorithm 3 of the paper (Litton et al., OSDI
//! 2016): overlay of the argument, sign, unmap, switch back.

use lwc::{Access, Errno, Event, Flags, Handle, Region, Result, Rights, Secret, Spec};
use sha2::{Digest, Sha256};
use std::convert::Infallible;

/// Bytes of a signature.
const SIGNATURE: usize = 32;

/// HMAC-SHA-256 (RFC 2104), of a key that is no longer than a block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; SIGNATURE] {
    let pad = |byte: u8| -> Vec<u8> {
        let key = key.iter().chain(std::iter::repeat(&0));
        key.take(64).map(|k| k ^ byte).collect()
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message);
    let outer = Sha256::new().chain_update(pad(0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

/// The signer. Each switch to it brings the length of a message; the signature
/// goes behind the message.
fn serve(key: &Secret, argument: &Region, mut event: Event) -> Result<Infallible> {
    key.lock()?; // locks are not inherited
    loop {
        let caller = event.from().expect("it waits for the answer");
        // A claim, so it is checked.
        let len = event.args().first().map_or(0, |&n| n as usize);
        let answer = if len <= argument.len() - SIGNATURE {
            // SAFETY: nothing but the caller's argument is ever there.
            unsafe { caller.overlay(&[Spec::region(argument, Access::Share)])? };
            let mut message = vec![0; len];
            argument.read(0, &mut message);
            argument.write(len, &hmac(key, &message));
            // SAFETY: used again after the next overlay alone.
            unsafe { lwc::unmap_self(&[Spec::region(argument, Access::Unmap)])? };
            SIGNATURE as u64
        } else {
            0
        };
        event = caller.switch(&[answer])?;
    }
}

fn sign(signer: Handle, argument: &Region, message: &[u8]) -> Result<[u8; SIGNATURE]> {
    argument.write(0, message);
    let event = signer.switch(&[message.len() as u64])?;
    assert_eq!(event.args(), [SIGNATURE as u64], "{event:?}");
    let mut signature = [0; SIGNATURE];
    argument.read(message.len(), &mut signature);
    Ok(signature)
}

fn main() -> Result<()> {
    let key = Secret::take(b"Jefe".to_vec())?; // a real one is read from a file
    let pages = key.pages();
    let argument = Region::new(1)?;

    // Absent in the signer, but it may bring it in.
    let lent = Spec::region(&argument, Access::Unmap).may_overlay();
    let signer = lwc::spawn(&[lent], Flags::TRAP_FAULT, |event| {
        match serve(&key, &argument, event) {
            Ok(never) => never,
            Err(error) => panic!("{error}"),
        }
    })?;
    drop(key); // erased here
    signer.restrict(&Rights::all())?;

    // The second test vector of RFC 4231.
    let signature = sign(*signer, &argument, b"what do ya want for nothing?")?;
    let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
    println!("signature {hex}");
    assert!(hex.starts_with("5bdcc146bf60754e6a042426089575c7"), "{hex}");

    // What an attacker who has taken over this context can try.
    let mut found = [0; 4];
    let read = signer.read_memory(pages.start as u64, &mut found);
    println!("read the signer's memory: {}", read.clone().unwrap_err());
    assert_eq!(read.unwrap_err().errno(), Errno::EACCES);
    // SAFETY: is refused; nothing is left at these addresses that it replaces.
    let overlay = unsafe { signer.overlay(&[Spec::memory(pages.clone(), Access::Share)]) };
    println!("overlay its key: {}", overlay.clone().unwrap_err());
    assert_eq!(overlay.unwrap_err().errno(), Errno::EACCES);
    let thief = lwc::spawn(&[], Flags::TRAP_FAULT, |event| {
        // SAFETY: none; nothing is there, so it ends here.
        let byte = unsafe { (pages.start as *const u8).read_volatile() };
        let error = event
            .from()
            .expect("a caller")
            .discard_switch(&[byte.into()]);
        panic!("{error}");
    })?;
    match thief.switch(&[])? {
        Event::Ended(end) => println!("read at its address: {end}"),
        event => {
            // Something of this context's own lies there by now.
            assert_ne!(event.args(), [u64::from(b'J')]);
            println!("read at its address: not the key");
        }
    }
    println!("the signer signs, nobody else has its key");
    Ok(())
}
