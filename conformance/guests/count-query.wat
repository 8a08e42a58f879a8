;; The verdict is the number of entries of the section `query`: none Allow, one Block, two Log, three RateLimit.
(module
  (@custom "portcullis.describe" "{\"name\":\"count-query\",\"version\":\"1.0.0\",\"abi\":{\"major\":2,\"minor\":0},\"phases\":[\"request\"],\"sections\":[\"query\"]}")
  (memory (export "memory") 1)

  ;; One region for all that the host writes, behind the data: the memory is grown to hold it.
  (func (export "pc_buffer") (param $len i32) (result i32)
    (local $short i32)
    (local.set $short (i32.sub (i32.add (local.get $len) (i32.const 4096))
      (i32.shl (memory.size) (i32.const 16))))
    (if (i32.gt_s (local.get $short) (i32.const 0))
      (then (if (i32.eq (i32.const -1)
          (memory.grow (i32.shr_u (i32.add (local.get $short) (i32.const 65535)) (i32.const 16))))
        (then (return (i32.const 0))))))
    (i32.const 4096))

  ;; The directory's record of a section, or 0.
  (func $record (param $view i32) (param $id i32) (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (i32.add (local.get $view) (i32.const 16)))
    (local.set $end (i32.add (local.get $at)
      (i32.shl (i32.load offset=12 (local.get $view)) (i32.const 4))))
    (block $none
      (loop $next
        (br_if $none (i32.ge_u (local.get $at) (local.get $end)))
        (if (i32.eq (i32.load16_u (local.get $at)) (local.get $id)) (then (return (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $next)))
    (i32.const 0))

  (func (export "pc_request") (param $view i32) (param $len i32) (result i32)
    (i32.load offset=12 (call $record (local.get $view) (i32.const 3)))))
