// Answers each line with the wall clock and (what the runtime lets see of) the monotonic clock, in
// nanoseconds.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

func main() {
	start := time.Now()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		now := time.Now()
		fmt.Println(now.UnixNano(), int64(now.Sub(start)))
	}
}
