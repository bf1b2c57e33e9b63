//! One function in WebAssembly behind an HTTP server: an instance of its own
//! for each request, from wasmtime's pooling allocator.
//!
//! ```sh
//! wasm serve FUNCTION PORT
//! wasm time BYTES FUNCTION...
//! wasm dirty MIB PAGES
//! ```
//!
//! `time` prints the nanoseconds of a chain of functions without HTTP: an
//! instance, the bytes copied in, the call and the bytes copied out for each.
//! `dirty` prints those of an instance with so much memory that writes to so many
//! pages of 4 KiB of it, from making it to its memory being as at first again.

#[path = "../http.rs"]
mod http;
#[expect(dead_code, reason = "shared with the other programs")]
#[path = "../work.rs"]
mod work;

use hyper::body::Bytes;
use std::time::{Duration, Instant};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module,
    PoolingAllocationConfig, Store,
};

const MODULE: &str = include_str!("../../functions.wat");

/// A module that writes to pages of its memory.
fn writer(mib: usize) -> String {
    // WebAssembly's pages are 64 KiB.
    let pages = mib * 16;
    format!(
        r#"(module
  (memory (export "memory") {pages} {pages})
  (data (i32.const 0) "\01")
  (func (export "dirty") (param $n i32)
    (local $at i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (i32.store8 (local.get $at) (i32.const 2))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))))"#
    )
}

fn prepare(module: &str) -> wasmtime::Result<InstancePre<()>> {
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(
        PoolingAllocationConfig::default(),
    ));
    let engine = Engine::new(&config)?;
    let module = Module::new(&engine, module)?;
    Linker::new(&engine).instantiate_pre(&module)
}

fn call(pre: &InstancePre<()>, function: &str, bytes: &mut [u8]) -> wasmtime::Result<()> {
    let mut store = Store::new(pre.module().engine(), ());
    let instance = pre.instantiate(&mut store)?;
    let memory = instance
        .get_memory(&mut store, "memory")
        .ok_or_else(|| wasmtime::Error::msg("no memory"))?;
    memory.write(&mut store, 0, bytes)?;
    let function = instance.get_typed_func::<i32, ()>(&mut store, function)?;
    function.call(&mut store, bytes.len() as i32)?;
    memory.read(&store, 0, bytes)?;
    Ok(())
}

fn serve(pre: &InstancePre<()>, function: &str, port: u16) -> wasmtime::Result<()> {
    let (pre, function) = (pre.clone(), function.to_owned());
    http::serve(port, move |body: Bytes| {
        let mut bytes = body.to_vec();
        call(&pre, &function, &mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes.into())
    })?;
    Ok(())
}

/// Nanoseconds of one, the median of turns.
fn median(mut one: impl FnMut() -> wasmtime::Result<()>) -> wasmtime::Result<f64> {
    let mut turns = Vec::new();
    for turn in 0..31 {
        let (started, mut n) = (Instant::now(), 0u32);
        while started.elapsed() < Duration::from_millis(20) {
            one()?;
            n += 1;
        }
        if turn > 0 {
            turns.push(started.elapsed().as_nanos() as f64 / f64::from(n));
        }
    }
    turns.sort_unstable_by(f64::total_cmp);
    Ok(turns[turns.len() / 2])
}

fn time(pre: &InstancePre<()>, len: usize, functions: &[String]) -> wasmtime::Result<f64> {
    let input = work::input(len);
    let mut bytes = input.clone();
    let took = median(|| {
        bytes.copy_from_slice(&input);
        let mut all = functions.iter();
        all.try_for_each(|function| call(pre, function, &mut bytes))
    })?;
    if bytes != work::expected(functions, &input) {
        return Err(wasmtime::Error::msg("a wrong answer"));
    }
    Ok(took)
}

/// Its memory is as at first when the next one is made: within the loop.
fn dirty(mib: usize, pages: usize) -> wasmtime::Result<f64> {
    if pages > mib << 8 {
        return Err(wasmtime::Error::msg("more pages than it has"));
    }
    let pre = prepare(&writer(mib))?;
    median(|| {
        let mut store = Store::new(pre.module().engine(), ());
        let instance = pre.instantiate(&mut store)?;
        let dirty = instance.get_typed_func::<i32, ()>(&mut store, "dirty")?;
        dirty.call(&mut store, pages as i32)
    })
}

fn main() -> wasmtime::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let pre = prepare(MODULE)?;
    match words[..] {
        ["serve", function, port] => serve(&pre, function, port.parse()?),
        ["dirty", mib, pages] => {
            println!("{}", dirty(mib.parse()?, pages.parse()?)?);
            Ok(())
        }
        ["time", len, ..] if words.len() > 2 => {
            println!("{}", time(&pre, len.parse()?, &args[2..])?);
            Ok(())
        }
        _ => {
            eprintln!("usage: wasm serve FUNCTION PORT | time BYTES FUNCTION... | dirty MIB PAGES");
            std::process::exit(2)
        }
    }
}
