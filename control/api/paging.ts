/** How lists are asked for in pages. */
import { z } from "zod";
import { PAGE_LENGTH_MAX } from "../operations/input.ts";

/** Numbers of a query string are text. */
export const countQuery = ({ max }: { max: number }) =>
  z.coerce.number<string>().int().min(1).max(max);

export const pageQuery = z.strictObject({
  after: z.string().max(200).optional().describe("The `next` of the page before"),
  limit: countQuery({ max: PAGE_LENGTH_MAX }).optional().describe("Length of the page"),
});

export const nextAnswer = z
  .string()
  .nullable()
  .describe("Where the next page begins; null: this is the last one");
