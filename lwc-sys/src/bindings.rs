// Generated from freebsd-kmod/sys/lwc.h by lwc-bindgen; do not edit.

pub const LWC_ABI_VERSION: u32 = 6;
pub const LWC_FAILED: i32 = -1;
pub const LWC_SWITCHED: i32 = -2;
pub const LWC_TRAPPED: i32 = -3;
pub const LWC_SELF: i32 = -1;
pub const LWC_TRAP_SYSCALL: u32 = 128;
pub const LWC_PREFAULT: u32 = 256;
pub const LWC_TRAP_FAULT: u32 = 4096;
pub const LWC_TRAP_EXIT: u32 = 8192;
pub const LWC_CREATE_FLAGS: u32 = 12672;
pub const LWC_MEMORY: u32 = 1;
pub const LWC_FILES: u32 = 2;
pub const LWC_CREDENTIALS: u32 = 4;
pub const LWC_TYPES: u32 = 7;
pub const LWC_COPY: u32 = 0;
pub const LWC_SHARE: u32 = 8;
pub const LWC_UNMAP: u32 = 16;
pub const LWC_MAY_OVERLAY: u32 = 32;
pub const LWC_OPTIONS: u32 = 56;
pub const LWC_MAX_ARGS: u32 = 16;
pub const LWC_UNTIL: u32 = 4096;
pub const LWC_ROOM: u32 = 8192;
pub const LWC_MAX_SPECS: u32 = 1024;
pub const LWC_CALL_NUMBER: u32 = 0;
pub const LWC_CALL_ARGS: u32 = 1;
pub const LWC_CALL_NARGS: u32 = 8;
pub const LWC_CALL_WORDS: u32 = 9;
pub const LWC_REPLY_ERRNO: u32 = 0;
pub const LWC_REPLY_VALUE: u32 = 1;
pub const LWC_END_SIGNAL: u32 = 0;
pub const LWC_END_CODE: u32 = 1;
pub const LWC_END_ADDRESS: u32 = 2;
pub const LWC_END_ID: u32 = 3;
pub const LWC_END_WORDS: u32 = 4;
pub const LWC_STATE_CURRENT: u32 = 1;
pub const LWC_STATE_SUSPENDED: u32 = 2;
pub const LWC_STATE_NEW: u32 = 3;
pub const LWC_STATE_DEAD: u32 = 4;
pub const LWC_STATE_PREEMPTED: u32 = 5;
pub const LWC_HAS_SNAPSHOT: u32 = 1;
pub const LWC_IS_CLEAN: u32 = 2;
pub const LWC_CONTROL_DESTROY: u32 = 1;
pub const LWC_CONTROL_ALLOW: u32 = 2;
pub const LWC_CONTROL_INTRODUCE: u32 = 3;
pub const LWC_CONTROL_SNAPSHOT: u32 = 4;
pub const LWC_CONTROL_ROLLBACK: u32 = 5;
pub const LWC_CONTROL_ERASE: u32 = 6;
pub const LWC_CONTROL_BELOW: u32 = 7;
pub const LWC_CONTROL_FROM: u32 = 8;
pub const LWC_CLEAN_ONLY: u64 = 4294967296;
pub const LWC_CALLS_MAX: u32 = 1024;
pub const LWC_ERASE_MAX: u32 = 1048576;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct lwc_spec {
    pub flags: ::std::os::raw::c_uint,
    pub sub: lwc_spec__bindgen_ty_1,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union lwc_spec__bindgen_ty_1 {
    pub memory: lwc_spec__bindgen_ty_1__bindgen_ty_1,
    pub descriptors: lwc_spec__bindgen_ty_1__bindgen_ty_2,
    pub credentials: lwc_spec__bindgen_ty_1__bindgen_ty_3,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct lwc_spec__bindgen_ty_1__bindgen_ty_1 {
    pub start: u64,
    pub end: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct lwc_spec__bindgen_ty_1__bindgen_ty_2 {
    pub from: ::std::os::raw::c_int,
    pub to: ::std::os::raw::c_int,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct lwc_spec__bindgen_ty_1__bindgen_ty_3 {
    pub padding: [::std::os::raw::c_char; 1usize],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct lwc_info {
    pub li_id: u64,
    pub li_creator: u64,
    pub li_version: u32,
    pub li_state: u32,
    pub li_rights: u32,
    pub li_flags: u32,
    pub li_contexts: u64,
    pub li_resident: u64,
    pub li_private: u64,
    pub li_rollback: u64,
    pub li_spare: [u64; 3usize],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct lwc_calls {
    pub calls: [u64; 16usize],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct lwc_below {
    pub calls: lwc_calls,
    pub limit: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct lwc_from {
    pub calls: lwc_calls,
    pub least: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct lwc_erase {
    pub start: u64,
    pub end: u64,
}
