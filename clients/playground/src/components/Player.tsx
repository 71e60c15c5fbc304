/** Audio with its waveform: click or move the slider to seek. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { urlOf } from "../gallery";

const BARS = 160;

export function Player({ file, label }: { file: Blob; label: string }) {
  const audio = useRef<HTMLAudioElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const peaks = useSignal<readonly number[]>([]);
  const position = useSignal(0);
  const duration = useSignal(0);
  const isPlaying = useSignal(false);

  useEffect(() => {
    void readPeaks(file).then((found) => ([peaks.value, duration.value] = [found.peaks, found.duration]));
  }, [file]);

  useEffect(() => {
    if (canvas.current) draw(canvas.current, peaks.value, duration.value ? position.value / duration.value : 0);
  }, [peaks.value, position.value, duration.value]);

  useEffect(() => {
    if (!isPlaying.value) return;
    let frame = requestAnimationFrame(function follow() {
      position.value = audio.current?.currentTime ?? 0;
      frame = requestAnimationFrame(follow);
    });
    return () => cancelAnimationFrame(frame);
  }, [isPlaying.value]);

  function toggle() {
    if (isPlaying.value) audio.current?.pause();
    else void audio.current?.play();
  }

  function seek(seconds: number) {
    if (audio.current) audio.current.currentTime = seconds;
    position.value = seconds;
  }

  return (
    <div class="player">
      <button type="button" class="primary round" aria-label={isPlaying.value ? "Pause" : "Play"} onClick={toggle}>
        {isPlaying.value ? "❚❚" : "▶"}
      </button>
      <div class="wave">
        <canvas ref={canvas} role="img" aria-label={`Waveform of: ${label}`} data-bars={peaks.value.length} />
        <input
          type="range"
          aria-label="Position in seconds"
          min={0}
          max={duration.value || 1}
          step={0.01}
          value={position.value}
          onInput={(event) => seek(event.currentTarget.valueAsNumber)}
        />
      </div>
      <span class="time">
        {sayTime(position.value)} / {sayTime(duration.value)}
      </span>
      <audio
        ref={audio}
        src={urlOf(file)}
        onPlay={() => (isPlaying.value = true)}
        onPause={() => (isPlaying.value = false)}
        onEnded={() => seek(0)}
      />
    </div>
  );
}

/** The largest sample of each of the bars, and the length in seconds. */
async function readPeaks(file: Blob): Promise<{ peaks: number[]; duration: number }> {
  const decoder = new OfflineAudioContext(1, 1, 44_100);
  const decoded = await decoder.decodeAudioData(await file.arrayBuffer());
  const samples = decoded.getChannelData(0);
  const size = Math.max(1, Math.floor(samples.length / BARS));
  const peaks = Array.from({ length: BARS }, (_, bar) => {
    let most = 0;
    for (let at = bar * size; at < Math.min((bar + 1) * size, samples.length); at++)
      most = Math.max(most, Math.abs(samples[at]!));
    return most;
  });
  return { peaks, duration: decoded.duration };
}

function draw(canvas: HTMLCanvasElement, peaks: readonly number[], played: number): void {
  const [width, height] = [canvas.clientWidth * devicePixelRatio, canvas.clientHeight * devicePixelRatio];
  [canvas.width, canvas.height] = [width, height];
  const brush = canvas.getContext("2d")!;
  const style = getComputedStyle(canvas);
  const most = Math.max(...peaks, 0.01);
  const step = width / BARS;
  peaks.forEach((peak, bar) => {
    const tall = Math.max(2, (peak / most) * height * 0.92);
    brush.fillStyle = bar / BARS < played ? style.getPropertyValue("accent-color") : style.color;
    brush.fillRect(bar * step, (height - tall) / 2, Math.max(1, step * 0.62), tall);
  });
}

function sayTime(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
}
