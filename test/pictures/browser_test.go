//go:build linux

package pictures

import (
	"bytes"
	"cmp"
	"context"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// scale is how many pixels of a picture are one of the page: a picture in README is narrower than the page.
const scale = 1.5

// view is how an HTML file is looked at.
type view struct {
	file, scheme string
	width        int64
}

// screen is the height of a picture at most: what follows on a longer page adds nothing.
const screen = 820

// photograph returns pictures of HTML files.
func photograph(t *testing.T, files map[string]view) map[string][]byte {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("the pictures are taken in Chromium: ", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, release := chromedp.NewExecAllocator(t.Context(), options...)
	defer release()
	ctx, _ = chromedp.NewContext(ctx)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	pictures := make(map[string][]byte)
	for name, from := range files {
		_, err := chromedp.Run(ctx, func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			return chromedp.Void{}, cmp.Or(
				second(chromedp.EmulateViewport(from.width, 100, chromedp.EmulateScale(scale))(ctx, target)),
				second(cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: from.scheme}},
				})),
				second(chromedp.Navigate("file://"+from.file)(ctx, target)),
			)
		})
		if err != nil {
			t.Fatal(err)
		}
		height, err := chromedp.Run(ctx, chromedp.Evaluate[int64]("document.documentElement.scrollHeight"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chromedp.Run(ctx, chromedp.EmulateViewport(from.width, min(height, screen), chromedp.EmulateScale(scale))); err != nil {
			t.Fatal(err)
		}
		taken, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		pictures[name] = shrink(t, taken)
	}
	return pictures
}

func second[T any](_ T, err error) error { return err }

// shrink reduces a picture to its 256 most frequent colours, which is a third of its size: all others are shades between them.
func shrink(t *testing.T, text []byte) []byte {
	t.Helper()
	from, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[color.Color]int)
	bounds := from.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[from.At(x, y)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int {
		return cmp.Or(count[b]-count[a], cmp.Compare(gray(a), gray(b)))
	})
	to := image.NewPaletted(bounds, color.Palette(frequent[:min(256, len(frequent))]))
	nearest := make(map[color.Color]uint8)
	for c := range count {
		nearest[c] = uint8(to.Palette.Index(c))
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			to.SetColorIndex(x, y, nearest[from.At(x, y)])
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gray(c color.Color) uint16 { return color.Gray16Model.Convert(c).(color.Gray16).Y }
